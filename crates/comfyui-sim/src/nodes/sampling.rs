//! Latents: making, sampling and decoding them.

use std::sync::Arc;

use serde_json::json;

use super::NodeClass;
use super::call::{Call, Failure, Latent, Produced, Slot, out_of_memory};
use super::definition::{Choices, Definition, Kind};
use crate::picture::{Digest, Pictures, digest, encode_enlarged_jpeg, frame_bytes, paint};

const SAMPLERS: &[&str] = &[
    "euler",
    "euler_cfg_pp",
    "euler_ancestral",
    "euler_ancestral_cfg_pp",
    "heun",
    "heunpp2",
    "exp_heun_2_x0",
    "exp_heun_2_x0_sde",
    "dpm_2",
    "dpm_2_ancestral",
    "lms",
    "dpm_fast",
    "dpm_adaptive",
    "dpmpp_2s_ancestral",
    "dpmpp_2s_ancestral_cfg_pp",
    "dpmpp_sde",
    "dpmpp_sde_gpu",
    "dpmpp_2m",
    "dpmpp_2m_cfg_pp",
    "dpmpp_2m_sde",
    "dpmpp_2m_sde_gpu",
    "dpmpp_2m_sde_heun",
    "dpmpp_2m_sde_heun_gpu",
    "dpmpp_3m_sde",
    "dpmpp_3m_sde_gpu",
    "ddpm",
    "lcm",
    "ipndm",
    "ipndm_v",
    "deis",
    "res_multistep",
    "res_multistep_cfg_pp",
    "res_multistep_ancestral",
    "res_multistep_ancestral_cfg_pp",
    "gradient_estimation",
    "gradient_estimation_cfg_pp",
    "er_sde",
    "seeds_2",
    "seeds_3",
    "sa_solver",
    "sa_solver_pece",
    "ddim",
    "uni_pc",
    "uni_pc_bh2",
];

/// The samplers that 0.3.64 does not have yet.
const ONLY_CURRENT_SAMPLERS: &[&str] = &["exp_heun_2_x0", "exp_heun_2_x0_sde"];

const SCHEDULERS: &[&str] = &[
    "simple",
    "sgm_uniform",
    "karras",
    "exponential",
    "ddim_uniform",
    "beta",
    "normal",
    "linear_quadratic",
    "kl_optimal",
];

/// The longest edge of a preview, in blocks of 8 pixels.
const PREVIEW_BLOCKS: u32 = 64;

pub(super) fn classes() -> Vec<NodeClass> {
    vec![
        NodeClass {
            definition: empty_latent(),
            action: make_latent,
        },
        NodeClass {
            definition: sampler(),
            action: sample,
        },
        NodeClass {
            definition: decoder(),
            action: decode,
        },
    ]
}

fn empty_latent() -> Definition {
    let edge = || json!({"default": 512, "min": 16, "max": 16384, "step": 8, "tooltip": ""});
    Definition {
        class_type: "EmptyLatentImage",
        display_name: ("Empty Latent Image", "Empty Latent Image"),
        category: ("model/latent", "latent"),
        module: "nodes",
        outputs: vec![("LATENT", "LATENT")],
        output_tooltips: true,
        ..Definition::default()
    }
    .required_with("width", Kind::Typed("INT"), edge())
    .required_with("height", Kind::Typed("INT"), edge())
    .required_with(
        "batch_size",
        Kind::Typed("INT"),
        json!({"default": 1, "min": 1, "max": 4096, "tooltip": ""}),
    )
}

fn sampler() -> Definition {
    let tooltip = || json!({"tooltip": ""});
    Definition {
        class_type: "KSampler",
        display_name: ("KSampler", "KSampler"),
        category: ("model/sampling", "sampling"),
        module: "nodes",
        outputs: vec![("LATENT", "LATENT")],
        output_tooltips: true,
        ..Definition::default()
    }
    .required_with("model", Kind::Typed("MODEL"), tooltip())
    .required_with(
        "seed",
        Kind::Typed("INT"),
        json!({"default": 0, "min": 0, "max": u64::MAX, "control_after_generate": true, "tooltip": ""}),
    )
    .required_with("steps", Kind::Typed("INT"), json!({"default": 20, "min": 1, "max": 10000, "tooltip": ""}))
    .required_with(
        "cfg",
        Kind::Typed("FLOAT"),
        json!({"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1, "round": 0.01, "tooltip": ""}),
    )
    .required_with("sampler_name", Kind::Choice(Choices::Growing(SAMPLERS, ONLY_CURRENT_SAMPLERS)), tooltip())
    .required_with("scheduler", Kind::Choice(Choices::Fixed(SCHEDULERS)), tooltip())
    .required_with("positive", Kind::Typed("CONDITIONING"), tooltip())
    .required_with("negative", Kind::Typed("CONDITIONING"), tooltip())
    .required_with("latent_image", Kind::Typed("LATENT"), tooltip())
    .required_with(
        "denoise",
        Kind::Typed("FLOAT"),
        json!({"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01, "tooltip": ""}),
    )
}

fn decoder() -> Definition {
    Definition {
        class_type: "VAEDecode",
        display_name: ("VAE Decode", "VAE Decode"),
        category: ("model/latent", "latent"),
        module: "nodes",
        outputs: vec![("IMAGE", "IMAGE")],
        output_tooltips: true,
        ..Definition::default()
    }
    .required_with("samples", Kind::Typed("LATENT"), json!({"tooltip": ""}))
    .required_with("vae", Kind::Typed("VAE"), json!({"tooltip": ""}))
}

fn make_latent(call: &Call<'_>) -> Result<Produced, Failure> {
    let (width, height) = (call.edge("width")? / 8 * 8, call.edge("height")? / 8 * 8);
    let digest = digest([b"empty latent".as_slice()]);
    Ok(Produced::slots([Slot::Latent(Latent {
        width,
        height,
        batch: call.integer("batch_size")?,
        digest,
    })]))
}

/// Walks the steps, which is where interrupts, progress and previews happen, and makes a new latent of everything that went in.
fn sample(call: &Call<'_>) -> Result<Produced, Failure> {
    let latent = call.latent("latent_image")?.clone();
    let steps = call.integer("steps")?;
    let sampled = digest([
        b"sampled".as_slice(),
        &call.opaque("model")?,
        &call.opaque("positive")?,
        &call.opaque("negative")?,
        &latent.digest,
        &call.integer("seed")?.to_le_bytes(),
        &steps.to_le_bytes(),
        &call.float("cfg")?.to_le_bytes(),
        &call.float("denoise")?.to_le_bytes(),
        call.text("sampler_name")?.as_bytes(),
        call.text("scheduler")?.as_bytes(),
    ]);
    let instance = call.instance();
    for step in 1..=steps {
        instance.queue.pause(instance.options.step_delay);
        call.run.check_interrupt()?;
        let preview = || preview(&sampled, step, latent.width, latent.height);
        call.run.sampler_step(call.node_id, step, steps, preview);
    }
    Ok(Produced::slots([Slot::Latent(Latent {
        digest: sampled,
        ..latent
    })]))
}

/// A JPEG of how far the sampler has come, at the latent's proportions.
fn preview(sampled: &Digest, step: u64, width: u32, height: u32) -> Vec<u8> {
    let longest = width.max(height).max(1);
    let blocks = |length: u32| {
        let scaled = u64::from(length) * u64::from(PREVIEW_BLOCKS) / u64::from(longest);
        u32::try_from(scaled).unwrap_or(PREVIEW_BLOCKS).max(1)
    };
    let (width, height) = (blocks(width), blocks(height));
    let seed = digest([b"preview".as_slice(), sampled, &step.to_le_bytes()]);
    encode_enlarged_jpeg(&paint(&seed, 0, width, height), width, height).unwrap_or_default()
}

fn decode(call: &Call<'_>) -> Result<Produced, Failure> {
    let (latent, vae) = (call.latent("samples")?, call.opaque("vae")?);
    frame_bytes(latent.width, latent.height, latent.batch).ok_or_else(out_of_memory)?;
    let seed = digest([b"decoded".as_slice(), &latent.digest, &vae]);
    let frames = (0..latent.batch)
        .map(|position| Arc::from(paint(&seed, position, latent.width, latent.height)));
    Ok(Produced::slots([Slot::Pictures(Pictures {
        width: latent.width,
        height: latent.height,
        frames: frames.collect(),
    })]))
}
