//! Encoding prompts.

use serde_json::json;

use super::NodeClass;
use super::call::{Call, Failure, Produced, Slot};
use super::definition::{Definition, Kind};
use crate::picture::digest;

pub(super) fn classes() -> Vec<NodeClass> {
    let definition = Definition {
        class_type: "CLIPTextEncode",
        display_name: ("CLIP Text Encode (Prompt)", "CLIP Text Encode (Prompt)"),
        category: ("model/conditioning", "conditioning"),
        module: "nodes",
        outputs: vec![("CONDITIONING", "CONDITIONING")],
        output_tooltips: true,
        ..Definition::default()
    }
    .required_with(
        "text",
        Kind::Typed("STRING"),
        json!({"multiline": true, "dynamicPrompts": true, "tooltip": ""}),
    )
    .required_with("clip", Kind::Typed("CLIP"), json!({"tooltip": ""}));
    vec![NodeClass {
        definition,
        action: encode,
    }]
}

fn encode(call: &Call<'_>) -> Result<Produced, Failure> {
    let (clip, text) = (call.opaque("clip")?, call.text("text")?);
    let conditioning = digest([b"conditioning".as_slice(), &clip, text.as_bytes()]);
    Ok(Produced::slots([Slot::Opaque("list", conditioning)]))
}
