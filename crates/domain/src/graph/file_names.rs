//! File names in a graph that could reach what is not the owner's.
//!
//! ComfyUI shares its folders between everybody (`reference/comfyui/PROTOCOL.md` sections 2 and 9), so isolation has
//! to be decided here, before the graph is submitted.

use std::collections::HashSet;

use serde_json::Value;

use super::findings::{Findings, input_pointer};
use super::link::LinkShape;
use super::lora_table::{LoraInputTable, last_part};
use super::outputs::is_output_path;
use super::path_rules::{names_other_user, path_fault};
use super::{LoraValue, PromptGraph};
use crate::ids::UserId;
use crate::validation::Violation;

/// Inputs of core classes that name a model (`reference/comfyui/model_inputs.json`).
const MODEL_INPUTS: [&str; 22] = [
    "audio_encoder_name",
    "bg_removal_name",
    "ckpt_name",
    "clip_name",
    "clip_name1",
    "clip_name2",
    "clip_name3",
    "clip_name4",
    "config_name",
    "control_net_name",
    "existing_lora",
    "gligen_name",
    "hypernetwork_name",
    "lora_name",
    "model_name",
    "model_path",
    "photomaker_model_name",
    "style_model_name",
    "text_encoder",
    "unet_name",
    "upscale_model",
    "vae_name",
];

/// Inputs by which `Load…` classes name a file of ComfyUI's input, output or temp folder.
const LOADED_INPUTS: [&str; 10] = [
    "audio",
    "file",
    "image",
    "latent",
    "mask",
    "mesh",
    "model_file",
    "upload",
    "video",
    "webcam",
];

/// Starts of the names of classes whose [`LOADED_INPUTS`] are names; elsewhere they may be pictures over a link.
const LOADERS_OF_USER_FILES: [&str; 2] = ["Load", "VHS_Load"];

/// Inputs that hold words, not names, whatever their value ends with.
const TEXT_INPUTS: [&str; 16] = [
    "caption",
    "clip_l",
    "description",
    "lyrics",
    "negative",
    "note",
    "notes",
    "populated_text",
    "positive",
    "prompt",
    "string",
    "t5xxl",
    "tags",
    "text",
    "title",
    "value",
];

const MODEL_EXTENSIONS: [&str; 10] = [
    "bin",
    "ckpt",
    "gguf",
    "onnx",
    "pkl",
    "pt",
    "pt2",
    "pth",
    "safetensors",
    "sft",
];

const MEDIA_EXTENSIONS: [&str; 38] = [
    "aac", "avi", "avif", "bmp", "csv", "exr", "fbx", "flac", "gif", "glb", "gltf", "hdr", "heic",
    "jpeg", "jpg", "json", "latent", "m4a", "m4v", "mkv", "mov", "mp3", "mp4", "obj", "ogg",
    "opus", "ply", "png", "psd", "stl", "svg", "tif", "tiff", "txt", "wav", "webm", "webp", "yaml",
];

/// Which of ComfyUI's folders a name is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Folder {
    /// Models, or what users uploaded as inputs.
    Shared,
    /// What runs wrote; only the owner's own folder in it may be read.
    Written,
}

impl PromptGraph {
    /// Says which values reach for files that are not `owner`'s, or out of ComfyUI's folders.
    ///
    /// In every string: the folder `user-{uuid}` of somebody else. Wherever a file is named besides: `..`, absolute
    /// paths, backslashes, control characters, and outputs of runs (`… [output]`, `… [temp]`) outside the owner's own
    /// folder. Names that come to a `Load…` class over a link cannot be checked and are refused. LoRA names are left
    /// to [`PromptGraph::lora_inputs`] and the resolution of what it finds; whether a picture is the owner's, to
    /// [`PromptGraph::file_inputs`].
    pub fn file_name_violations(&self, owner: UserId) -> Vec<Violation> {
        let mut findings = Findings::default();
        let resolved_elsewhere: HashSet<String> = self
            .lora_inputs(&LoraInputTable::core())
            .into_iter()
            // The text around a tag is everybody's to check.
            .filter(|input| {
                matches!(input.value, LoraValue::Name(_)) && !input.location.is_tag()
            })
            .map(|input| input.pointer)
            .collect();
        for (id, node) in &self.nodes {
            for (input, value) in node.inputs() {
                let pointer = || input_pointer(id.as_str(), input);
                if resolved_elsewhere.contains(&pointer()) {
                    continue;
                }
                if let Some(detail) = fault(node.class_type(), input, value, owner) {
                    findings.add(pointer, detail);
                }
            }
        }
        findings.into_violations()
    }
}

fn fault(class_type: &str, input: &str, value: &Value, owner: UserId) -> Option<&'static str> {
    let loads = is_loaded_file(class_type, last_part(input));
    if LinkShape::of(value).is_some() {
        // Models come from folders without users' files, so a link is harmless there; an image may be anybody's.
        return (loads && LOADERS_OF_USER_FILES.iter().any(|start| class_type.starts_with(start)))
            .then_some("must be a literal: a file name that comes over a link cannot be checked before the run");
    }
    if loads && value.is_object() {
        return Some("must be a string that names a file");
    }
    let lower = last_part(input).to_ascii_lowercase();
    let mut detail = None;
    each_string(value, &mut |text| {
        detail = detail.or_else(|| text_fault(class_type, &lower, text, owner));
    });
    detail
}

fn text_fault(class_type: &str, input: &str, text: &str, owner: UserId) -> Option<&'static str> {
    if names_other_user(text, owner) {
        return Some("names another user's folder");
    }
    if !names_file(class_type, input, text) {
        return None;
    }
    let (path, folder) = annotated(class_type, text);
    if let Some(fault) = path_fault(path) {
        return Some(fault);
    }
    let own_folder = format!("user-{owner}/");
    (folder == Folder::Written && !path.starts_with(&own_folder))
        .then_some("names a file that a run wrote, outside of your own folder")
}

fn names_file(class_type: &str, input: &str, text: &str) -> bool {
    MODEL_INPUTS.contains(&input)
        || is_loaded_file(class_type, input)
        || is_output_path(class_type, input)
        || is_path_name(input)
        || (!is_text(input) && has_file_extension(text))
}

/// Whether a class reads a file of users through this input; names of classes are case-sensitive, as in ComfyUI.
pub(super) fn is_loaded_file(class_type: &str, input: &str) -> bool {
    class_type.contains("Load") && LOADED_INPUTS.contains(&input)
}

fn is_path_name(input: &str) -> bool {
    const WORDS: [&str; 8] = [
        "path",
        "dir",
        "directory",
        "folder",
        "subfolder",
        "filename",
        "file",
        "file_name",
    ];
    WORDS.iter().any(|word| {
        input == *word
            || input
                .strip_suffix(word)
                .is_some_and(|before| before.ends_with('_'))
    })
}

fn is_text(input: &str) -> bool {
    TEXT_INPUTS.contains(&input)
        || input.ends_with("_prompt")
        || input.ends_with("_text")
        || input.starts_with("text_")
        || input.starts_with("prompt_")
}

/// Splits ComfyUI's annotation off a name: it drops the bracketed word and the character before it.
pub(super) fn annotated<'a>(class_type: &str, text: &'a str) -> (&'a str, Folder) {
    let lower = text.to_ascii_lowercase();
    for (mark, folder) in [
        ("[output]", Folder::Written),
        ("[temp]", Folder::Written),
        ("[input]", Folder::Shared),
    ] {
        if lower.ends_with(mark) {
            let path = text.get(..text.len() - mark.len()).unwrap_or_default();
            return (path.strip_suffix(' ').unwrap_or(path), folder);
        }
    }
    let reads_outputs = class_type == "LoadImageOutput";
    (
        text,
        if reads_outputs {
            Folder::Written
        } else {
            Folder::Shared
        },
    )
}

/// Whether `text` ends like the file of a model.
pub fn has_model_extension(text: &str) -> bool {
    extension(text).is_some_and(|extension| MODEL_EXTENSIONS.contains(&extension.as_str()))
}

fn has_file_extension(text: &str) -> bool {
    let (path, _) = annotated("", text);
    extension(path).is_some_and(|extension| {
        MODEL_EXTENSIONS.contains(&extension.as_str())
            || MEDIA_EXTENSIONS.contains(&extension.as_str())
    })
}

fn extension(text: &str) -> Option<String> {
    let (_, extension) = text.trim_end().rsplit_once('.')?;
    (extension.len() <= 11).then(|| extension.to_ascii_lowercase())
}

/// Calls `visit` with every string within `value`, those that ComfyUI unwraps included. The graph bounds the depth.
fn each_string(value: &Value, visit: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => visit(text),
        Value::Array(items) => items.iter().for_each(|item| each_string(item, visit)),
        Value::Object(members) => members
            .values()
            .for_each(|member| each_string(member, visit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
