//! Training LoRAs: everything about the class but the training.

use serde_json::{Value, json};

use super::NodeClass;
use super::call::{Call, Failure, Produced, Slot};
use super::definition::{Choices, Definition, Kind, Shape};
use crate::picture::digest;

pub(super) fn classes() -> Vec<NodeClass> {
    vec![NodeClass {
        definition: train_lora(),
        action: train,
    }]
}

fn train_lora() -> Definition {
    let (int, float, flag) = (
        Kind::Typed("INT"),
        Kind::Typed("FLOAT"),
        Kind::Typed("BOOLEAN"),
    );
    let choice = |options| Kind::Choice(Choices::Fixed(options));
    let range = |default: u64, min: u64, max: u64| json!({"tooltip": "", "default": default, "min": min, "max": max});
    let default = |value: Value| json!({"tooltip": "", "default": value});
    Definition {
        class_type: "TrainLoraNode",
        display_name: ("Train LoRA", "Train LoRA"),
        category: ("model/training", "training"),
        module: "comfy_extras.nodes_train",
        shape: Shape::V3,
        outputs: vec![
            ("LORA_MODEL", "lora"),
            ("LOSS_MAP", "loss_map"),
            ("INT", "steps"),
        ],
        input_is_list: true,
        experimental: true,
        only_current: true,
        ..Definition::default()
    }
    .required_with("model", Kind::Typed("MODEL"), json!({"tooltip": ""}))
    .required_with("latents", Kind::Typed("LATENT"), json!({"tooltip": ""}))
    .required_with(
        "positive",
        Kind::Typed("CONDITIONING"),
        json!({"tooltip": ""}),
    )
    .required_with("batch_size", int, range(1, 1, 10000))
    .required_with("grad_accumulation_steps", int, range(1, 1, 1024))
    .required_with("steps", int, range(16, 1, 100_000))
    .required_with(
        "learning_rate",
        float,
        json!({"tooltip": "", "default": 5e-4, "min": 1e-7, "max": 1.0, "step": 1e-7}),
    )
    .required_with("rank", int, range(8, 1, 128))
    .required_with(
        "optimizer",
        choice(&["AdamW", "Adam", "SGD", "RMSprop"]),
        default(json!("AdamW")),
    )
    .required_with(
        "loss_function",
        choice(&["MSE", "L1", "Huber", "SmoothL1"]),
        default(json!("MSE")),
    )
    .required_with("seed", int, range(0, 0, u64::MAX))
    .required_with(
        "training_dtype",
        choice(&["bf16", "fp32", "none"]),
        default(json!("bf16")),
    )
    .required_with(
        "lora_dtype",
        choice(&["bf16", "fp32"]),
        default(json!("bf16")),
    )
    .required_with("quantized_backward", flag, default(json!(false)))
    .required_with(
        "algorithm",
        choice(&["LoRA", "LoHa", "LoKr", "OFT"]),
        default(json!("LoRA")),
    )
    .required_with("gradient_checkpointing", flag, default(json!(true)))
    .required_with("checkpoint_depth", int, range(1, 1, 5))
    .required_with("offloading", flag, default(json!(false)))
    .required_with(
        "existing_lora",
        Kind::Choice(Choices::FolderOrNone("loras")),
        default(json!("[None]")),
    )
    .required_with("bucket_mode", flag, default(json!(false)))
    .required_with("bypass_mode", flag, default(json!(false)))
}

/// Gives a LoRA that is the digest of what it would have been trained on.
fn train(call: &Call<'_>) -> Result<Produced, Failure> {
    let trained = digest([
        b"trained".as_slice(),
        &call.opaque("model")?,
        &call.latent("latents")?.digest,
        &call.opaque("positive")?,
        &call.integer("seed")?.to_le_bytes(),
        &call.integer("steps")?.to_le_bytes(),
    ]);
    Ok(Produced::slots([
        Slot::Opaque("dict", trained),
        Slot::Json(json!({"loss": []})),
        Slot::Json(json!(call.integer("steps")?)),
    ]))
}
