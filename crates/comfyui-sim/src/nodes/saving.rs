//! Output nodes for pictures.

use serde_json::{Value, json};

use super::NodeClass;
use super::call::{Call, Failure, Produced, Slot};
use super::definition::{Definition, Kind};
use crate::output::{Place, PlaceError};
use crate::picture::{Pictures, encode_png};
use crate::python;

const HIDDEN: &[(&str, &str)] = &[("prompt", "PROMPT"), ("extra_pnginfo", "EXTRA_PNGINFO")];

pub(super) fn classes() -> Vec<NodeClass> {
    let save = Definition {
        class_type: "SaveImage",
        display_name: ("Save Image", "Save Image"),
        category: ("image", "image"),
        module: "nodes",
        hidden: HIDDEN,
        outputs: vec![("IMAGE", "images")],
        output_node: true,
        essentials: Some("Basics"),
        ..Definition::default()
    }
    .required_with("images", Kind::Typed("IMAGE"), json!({"tooltip": ""}))
    .required_with(
        "filename_prefix",
        Kind::Typed("STRING"),
        json!({"default": "ComfyUI", "tooltip": ""}),
    );
    let preview = Definition {
        class_type: "PreviewImage",
        display_name: ("Preview Image", "Preview Image"),
        category: ("image", "image"),
        module: "nodes",
        hidden: HIDDEN,
        outputs: vec![("IMAGE", "images")],
        output_node: true,
        essentials: Some("Basics"),
        ..Definition::default()
    }
    .required("images", Kind::Typed("IMAGE"));
    let websocket = Definition {
        class_type: "SaveImageWebsocket",
        display_name: ("SaveImageWebsocket", "SaveImageWebsocket"),
        category: ("api/image", "api/image"),
        module: "custom_nodes.websocket_image_save",
        output_node: true,
        ..Definition::default()
    }
    .required("images", Kind::Typed("IMAGE"));
    vec![
        NodeClass {
            definition: save,
            action: save_pictures,
        },
        NodeClass {
            definition: preview,
            action: preview_pictures,
        },
        NodeClass {
            definition: websocket,
            action: send_pictures,
        },
    ]
}

fn save_pictures(call: &Call<'_>) -> Result<Produced, Failure> {
    write_pictures(call, &call.text("filename_prefix")?, "output")
}

fn preview_pictures(call: &Call<'_>) -> Result<Produced, Failure> {
    write_pictures(
        call,
        &format!("ComfyUI_temp_{}", call.instance().temp_suffix),
        "temp",
    )
}

/// Sends the pictures to the client as binary frames, and leaves no file and no output.
fn send_pictures(call: &Call<'_>) -> Result<Produced, Failure> {
    let pictures = call.pictures("images")?;
    let count = u64::try_from(pictures.frames.len()).unwrap_or(u64::MAX);
    for (position, frame) in (0..count).zip(&pictures.frames) {
        let file = encode_png(frame, pictures.width, pictures.height, &[])
            .map_err(|error| cannot_write(&error))?;
        call.run.final_picture(call.node_id, position, count, &file);
    }
    Ok(Produced::default())
}

fn write_pictures(call: &Call<'_>, prefix: &str, kind: &str) -> Result<Produced, Failure> {
    let pictures = call.pictures("images")?;
    let root = call.instance().options.base_dir.join(kind);
    let place = Place::find(&root, prefix, pictures.width, pictures.height).map_err(|error| match error {
        PlaceError::Outside { folder } => Failure::raised(
            "Exception",
            format!(
                "**** ERROR: Saving image outside the output folder is not allowed.\n full_output_folder: {}\n         output_dir: {}",
                folder.display(),
                root.display()
            ),
        ),
        PlaceError::Io(error) => cannot_write(&error),
    })?;
    let texts = metadata(call);
    let mut saved = Vec::with_capacity(pictures.frames.len());
    for (position, frame) in (0_u64..).zip(&pictures.frames) {
        let name = place.file_name(position);
        write_one(pictures, frame, &texts, &place.folder.join(&name))?;
        saved.push(json!({"filename": name, "subfolder": place.subfolder, "type": kind}));
    }
    Ok(Produced {
        slots: vec![Slot::Pictures(pictures.clone())],
        ui: Some(json!({"images": saved})),
    })
}

fn write_one(
    pictures: &Pictures,
    frame: &[u8],
    texts: &[(String, String)],
    path: &std::path::Path,
) -> Result<(), Failure> {
    let file = encode_png(frame, pictures.width, pictures.height, texts)
        .map_err(|error| cannot_write(&error))?;
    std::fs::write(path, file).map_err(|error| cannot_write(&error))
}

/// The prompt, and whatever the client wants to have in the file.
fn metadata(call: &Call<'_>) -> Vec<(String, String)> {
    let mut texts = vec![(
        "prompt".to_owned(),
        python::dumps(&call.run.item.prompt.to_value()),
    )];
    if let Some(Value::Object(extra)) = call.run.item.extra_data.get("extra_pnginfo") {
        texts.extend(
            extra
                .iter()
                .map(|(key, value)| (key.clone(), python::dumps(value))),
        );
    }
    texts
}

fn cannot_write(error: &dyn std::fmt::Display) -> Failure {
    Failure::raised("OSError", error.to_string())
}
