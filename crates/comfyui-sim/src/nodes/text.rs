//! Text in and out.

use serde_json::json;

use super::NodeClass;
use super::call::{Call, Failure, Produced, Slot};
use super::definition::{Definition, Kind, Shape};

pub(super) fn classes() -> Vec<NodeClass> {
    let primitive = Definition {
        class_type: "PrimitiveString",
        display_name: ("Text", "String"),
        category: ("utilities/primitive", "utils/primitive"),
        module: "comfy_extras.nodes_primitive",
        shape: Shape::V3,
        outputs: vec![("STRING", "STRING")],
        ..Definition::default()
    }
    .required_with("value", Kind::Typed("STRING"), json!({"multiline": false}));
    let preview = Definition {
        class_type: "PreviewAny",
        display_name: ("Preview as Text", "Preview Any"),
        category: ("utilities", "utils"),
        module: "comfy_extras.nodes_preview_any",
        outputs: vec![("STRING", "STRING")],
        output_node: true,
        ..Definition::default()
    }
    .required_with("source", Kind::Typed("*"), json!({}));
    vec![
        NodeClass {
            definition: primitive,
            action: give_text,
        },
        NodeClass {
            definition: preview,
            action: show_text,
        },
    ]
}

fn give_text(call: &Call<'_>) -> Result<Produced, Failure> {
    Ok(Produced::slots([Slot::Text(call.text("value")?)]))
}

fn show_text(call: &Call<'_>) -> Result<Produced, Failure> {
    let text = call.shown("source")?;
    Ok(Produced {
        ui: Some(json!({"text": [text]})),
        slots: vec![Slot::Text(text)],
    })
}
