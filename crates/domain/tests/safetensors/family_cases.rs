//! What LoRAs of each family look like, and of others.

use atelier_domain::lora::{BaseModelFamily, Confidence};

/// Names and shapes.
pub(crate) type Tensors = Vec<(String, Vec<usize>)>;

const RANK: usize = 4;

/// Pairs of matrices: layer, inputs and outputs, in kohya's names.
pub(crate) fn kohya(layers: &[(&str, usize, usize)]) -> Tensors {
    pairs(layers, "lora_down.weight", "lora_up.weight")
}

/// The same in PEFT's names.
pub(crate) fn peft(layers: &[(&str, usize, usize)]) -> Tensors {
    pairs(layers, "lora_A.weight", "lora_B.weight")
}

fn pairs(layers: &[(&str, usize, usize)], down: &str, up: &str) -> Tensors {
    layers
        .iter()
        .flat_map(|(layer, inputs, outputs)| {
            [
                (format!("{layer}.{down}"), vec![RANK, *inputs]),
                (format!("{layer}.{up}"), vec![*outputs, RANK]),
            ]
        })
        .collect()
}

pub(crate) type Case = (&'static str, Tensors, BaseModelFamily, Confidence);

pub(crate) fn unet_cases() -> Vec<Case> {
    use BaseModelFamily::{StableDiffusion1, StableDiffusion2, StableDiffusionXl};
    use Confidence::{High, Medium};
    let cross = "lora_unet_up_blocks_3_attentions_2_transformer_blocks_0_attn2_to_k";
    let te = "lora_te_text_model_encoder_layers_0_self_attn_v_proj";
    vec![
        ("sd1 kohya", kohya(&[(cross, 768, 320), (te, 768, 768)]), StableDiffusion1, High),
        ("sd1 peft", peft(&[("unet.mid_block.attentions.0.transformer_blocks.0.attn2.to_v", 768, 1280)]),
            StableDiffusion1, High),
        ("sd1 oldest diffusers", pairs(
            &[("unet.down_blocks.0.attentions.0.transformer_blocks.0.attn2.processor.to_k", 768, 320)],
            "", "",
        ).into_iter().map(|(name, shape)| {
            let part = if shape[0] == RANK { "down" } else { "up" };
            (format!("{}_lora.{part}.weight", name.trim_end_matches('.')), shape)
        }).collect(), StableDiffusion1, High),
        ("sd1 text encoder alone", kohya(&[(te, 768, 768)]), StableDiffusion1, Medium),
        ("sd2 kohya", kohya(&[(cross, 1024, 320), (te, 1024, 1024)]), StableDiffusion2, High),
        ("sd2 original names", peft(&[("diffusion_model.input_blocks.1.1.transformer_blocks.0.attn2.to_k", 1024, 320)]),
            StableDiffusion2, High),
        ("sdxl kohya", kohya(&[
            ("lora_unet_down_blocks_2_attentions_1_transformer_blocks_9_attn2_to_v", 2048, 1280),
            ("lora_te1_text_model_encoder_layers_0_self_attn_v_proj", 768, 768),
            ("lora_te2_text_model_encoder_layers_0_self_attn_v_proj", 1280, 1280),
        ]), StableDiffusionXl, High),
        ("sdxl sgm names", kohya(&[("lora_unet_input_blocks_8_1_transformer_blocks_4_attn2_to_k", 2048, 1280)]),
            StableDiffusionXl, High),
        ("sdxl without cross attention", kohya(&[
            ("lora_unet_middle_block_1_transformer_blocks_7_attn1_to_k", 1280, 1280),
        ]), StableDiffusionXl, Medium),
        ("sdxl loha", vec![
            ("lycoris_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k.hada_w1_a".to_owned(), vec![640, RANK]),
            ("lycoris_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k.hada_w1_b".to_owned(), vec![RANK, 2048]),
        ], StableDiffusionXl, High),
        ("sdxl lokr", vec![
            ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k.lokr_w1".to_owned(), vec![16, 16]),
            ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k.lokr_w2_a".to_owned(), vec![40, RANK]),
            ("lora_unet_down_blocks_1_attentions_0_transformer_blocks_1_attn2_to_k.lokr_w2_b".to_owned(), vec![RANK, 128]),
        ], StableDiffusionXl, High),
        ("sd1 full difference", vec![
            (format!("{cross}.diff"), vec![320, 768]),
        ], StableDiffusion1, High),
    ]
}

pub(crate) fn flow_cases() -> Vec<Case> {
    use BaseModelFamily::{Flux1, Flux2, HunyuanVideo};
    use Confidence::{High, Medium};
    vec![
        (
            "flux.1 kohya",
            kohya(&[
                ("lora_unet_double_blocks_0_img_attn_proj", 3072, 3072),
                ("lora_unet_double_blocks_0_img_mod_lin", 3072, 18_432),
                ("lora_unet_single_blocks_37_linear1", 3072, 21_504),
            ]),
            Flux1,
            High,
        ),
        (
            "flux.1 kohya without modulations",
            kohya(&[
                ("lora_unet_double_blocks_18_img_attn_qkv", 3072, 9216),
                ("lora_unet_single_blocks_30_linear1", 3072, 21_504),
            ]),
            Flux1,
            Medium,
        ),
        (
            "flux.1 peft",
            peft(&[
                ("transformer.transformer_blocks.0.attn.to_k", 3072, 3072),
                (
                    "transformer.single_transformer_blocks.12.attn.to_q",
                    3072,
                    3072,
                ),
            ]),
            Flux1,
            Medium,
        ),
        (
            "flux.1 peft, whole",
            peft(&[
                (
                    "transformer.transformer_blocks.18.norm1.linear",
                    3072,
                    18_432,
                ),
                ("transformer.transformer_blocks.18.attn.to_k", 3072, 3072),
                (
                    "transformer.single_transformer_blocks.37.attn.to_q",
                    3072,
                    3072,
                ),
            ]),
            Flux1,
            High,
        ),
        (
            "flux.1 bfl names",
            peft(&[("diffusion_model.single_blocks.3.modulation.lin", 3072, 9216)]),
            Flux1,
            High,
        ),
        (
            "flux.2 dev bfl names",
            peft(&[
                ("diffusion_model.double_blocks.7.img_attn.qkv", 6144, 18_432),
                ("diffusion_model.single_blocks.47.linear1", 6144, 55_296),
            ]),
            Flux2,
            High,
        ),
        (
            "flux.2 klein 9B kohya",
            kohya(&[("lora_unet_single_blocks_23_linear1", 4096, 36_864)]),
            Flux2,
            High,
        ),
        (
            "flux.2 klein 4B",
            peft(&[("diffusion_model.single_blocks.2.linear1", 3072, 27_648)]),
            Flux2,
            High,
        ),
        (
            "flux.2 diffusers",
            peft(&[
                (
                    "transformer.single_transformer_blocks.20.attn.to_qkv_mlp_proj",
                    6144,
                    55_296,
                ),
                (
                    "transformer.transformer_blocks.2.ff.linear_in",
                    6144,
                    36_864,
                ),
            ]),
            Flux2,
            High,
        ),
        (
            "flux.2 by its text",
            peft(&[
                ("diffusion_model.txt_in", 7680, 3072),
                ("diffusion_model.double_blocks.1.img_attn.qkv", 3072, 9216),
            ]),
            Flux2,
            High,
        ),
        (
            "hunyuan video",
            peft(&[
                (
                    "diffusion_model.double_blocks.3.txt_mod.linear",
                    3072,
                    18_432,
                ),
                (
                    "diffusion_model.single_blocks.39.modulation.linear",
                    3072,
                    9216,
                ),
            ]),
            HunyuanVideo,
            High,
        ),
        (
            "hunyuan video kohya",
            kohya(&[
                ("lora_unet_double_blocks_3_img_mlp_fc1", 3072, 12_288),
                ("lora_unet_double_blocks_3_img_attn_qkv", 3072, 9216),
            ]),
            HunyuanVideo,
            Medium,
        ),
    ]
}

pub(crate) fn transformer_cases() -> Vec<Case> {
    use BaseModelFamily::{QwenImage, StableDiffusion3, Wan, ZImage};
    use Confidence::{High, Medium};
    vec![
        (
            "sd3.5 large",
            peft(&[("transformer.transformer_blocks.37.attn.to_k", 2432, 2432)]),
            StableDiffusion3,
            High,
        ),
        (
            "sd3 medium",
            peft(&[("transformer.transformer_blocks.2.attn.to_k", 1536, 1536)]),
            StableDiffusion3,
            Medium,
        ),
        (
            "sd3 kohya",
            kohya(&[(
                "lora_unet_joint_blocks_0_context_block_attn_qkv",
                1536,
                4608,
            )]),
            StableDiffusion3,
            High,
        ),
        (
            "wan 14B",
            peft(&[("diffusion_model.blocks.0.cross_attn.k", 5120, 5120)]),
            Wan,
            High,
        ),
        (
            "wan 1.3B kohya",
            kohya(&[("lora_unet_blocks_0_cross_attn_k", 1536, 1536)]),
            Wan,
            High,
        ),
        (
            "wan 5B",
            kohya(&[("lora_unet_blocks_29_cross_attn_v", 3072, 3072)]),
            Wan,
            High,
        ),
        (
            "wan diffusers",
            peft(&[
                ("transformer.blocks.0.attn2.to_k", 5120, 5120),
                ("transformer.blocks.0.ffn.net.0.proj", 5120, 13_824),
            ]),
            Wan,
            Medium,
        ),
        (
            "qwen-image",
            peft(&[
                (
                    "transformer.transformer_blocks.59.attn.add_k_proj",
                    3072,
                    3072,
                ),
                (
                    "transformer.transformer_blocks.59.img_mlp.net.0.proj",
                    3072,
                    12_288,
                ),
            ]),
            QwenImage,
            High,
        ),
        (
            "qwen-image kohya",
            kohya(&[
                ("lora_unet_transformer_blocks_3_attn_add_k_proj", 3072, 3072),
                ("lora_unet_transformer_blocks_3_img_mlp_net_2", 12_288, 3072),
            ]),
            QwenImage,
            High,
        ),
        (
            "qwen-image attention",
            peft(&[
                ("transformer_blocks.0.attn.to_k", 3072, 3072),
                ("transformer_blocks.59.attn.to_k", 3072, 3072),
            ]),
            QwenImage,
            Medium,
        ),
        (
            "z-image",
            peft(&[
                ("diffusion_model.layers.0.adaLN_modulation.0", 256, 15_360),
                ("diffusion_model.layers.0.feed_forward.w3", 3840, 10_240),
                (
                    "diffusion_model.context_refiner.0.attention.to_k",
                    3840,
                    3840,
                ),
            ]),
            ZImage,
            High,
        ),
        (
            "z-image kohya",
            kohya(&[
                ("lora_unet_layers_4_feed_forward_w1", 3840, 10_240),
                ("lora_unet_layers_4_attention_to_q", 3840, 3840),
            ]),
            ZImage,
            Medium,
        ),
    ]
}
