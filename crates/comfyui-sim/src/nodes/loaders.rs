//! Loading checkpoints.

use serde_json::json;

use super::NodeClass;
use super::call::{Call, Failure, Produced, Slot};
use super::definition::{Choices, Definition, Kind};
use super::loras::read_model_file;
use crate::picture::digest;

pub(super) fn classes() -> Vec<NodeClass> {
    let definition = Definition {
        class_type: "CheckpointLoaderSimple",
        display_name: ("Load Checkpoint", "Load Checkpoint"),
        category: ("model/loaders", "loaders"),
        module: "nodes",
        outputs: vec![("MODEL", "MODEL"), ("CLIP", "CLIP"), ("VAE", "VAE")],
        output_tooltips: true,
        ..Definition::default()
    }
    .required_with(
        "ckpt_name",
        Kind::Choice(Choices::Folder("checkpoints")),
        json!({"tooltip": ""}),
    );
    vec![NodeClass {
        definition,
        action: load_checkpoint,
    }]
}

/// Gives model, text encoder and decoder of a checkpoint. A virtual one is made of its name, a real one of its bytes.
fn load_checkpoint(call: &Call<'_>) -> Result<Produced, Failure> {
    let name = call.text("ckpt_name")?;
    let instance = call.instance();
    // Loading cannot be interrupted: an interrupt waits for the next node.
    instance.queue.pause(instance.options.load_delay);
    let content = if instance.models.is_virtual(&name) {
        digest([b"virtual checkpoint".as_slice(), name.as_bytes()])
    } else {
        read_model_file(instance, "checkpoints", &name)?
    };
    let part = |name: &str| digest([name.as_bytes(), content.as_slice()]);
    Ok(Produced::slots([
        Slot::Opaque("comfy.model_patcher.ModelPatcher", part("model")),
        Slot::Opaque("comfy.sd.CLIP", part("clip")),
        Slot::Opaque("comfy.sd.VAE", part("vae")),
    ]))
}
