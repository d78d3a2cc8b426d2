//! Applying LoRAs.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::path::Path;

use serde_json::{Value, json};

use super::NodeClass;
use super::call::{Call, Failure, Produced, Slot};
use super::definition::{Choices, Definition, Kind};
use crate::instance::Instance;
use crate::models::check_safetensors;
use crate::picture::{Digest, digest, digest_of};

const MODEL_CLASS: &str = "comfy.model_patcher.ModelPatcher";
const CLIP_CLASS: &str = "comfy.sd.CLIP";

pub(super) fn classes() -> Vec<NodeClass> {
    vec![
        both(
            "LoraLoader",
            ("Load LoRA (Model and CLIP)", "Load LoRA"),
            false,
        ),
        model_only(
            "LoraLoaderModelOnly",
            ("Load LoRA", "LoraLoaderModelOnly"),
            false,
        ),
        both(
            "LoraLoaderBypass",
            ("Load LoRA (Bypass) (For debugging)", ""),
            true,
        ),
        model_only(
            "LoraLoaderBypassModelOnly",
            ("Load LoRA (Bypass, Model Only) (for debugging)", ""),
            true,
        ),
        hook(
            "CreateHookLora",
            ("Create Hook LoRA", "Create Hook LoRA"),
            true,
        ),
        hook(
            "CreateHookLoraModelOnly",
            ("Create Hook LoRA (MO)", "Create Hook LoRA (MO)"),
            false,
        ),
    ]
}

fn lora_name() -> Kind {
    Kind::Choice(Choices::Folder("loras"))
}

fn strength(limit: f64, tooltip: bool) -> Value {
    let mut options = json!({"default": 1.0, "min": -limit, "max": limit, "step": 0.01});
    if tooltip && let Some(members) = options.as_object_mut() {
        members.insert("tooltip".to_owned(), json!(""));
    }
    options
}

/// A loader for model and text encoder. The bypass variants, which exist for debugging, do the same here.
fn both(
    class_type: &'static str,
    display_name: (&'static str, &'static str),
    bypass: bool,
) -> NodeClass {
    let tooltip = || json!({"tooltip": ""});
    let definition = Definition {
        class_type,
        display_name,
        category: ("model/loaders", "loaders"),
        module: if bypass {
            "comfy_extras.nodes_lora_debug"
        } else {
            "nodes"
        },
        outputs: vec![("MODEL", "MODEL"), ("CLIP", "CLIP")],
        output_tooltips: true,
        experimental: bypass,
        essentials: (!bypass).then_some("Image Generation"),
        only_current: bypass,
        ..Definition::default()
    }
    .required_with("model", Kind::Typed("MODEL"), tooltip())
    .required_with("clip", Kind::Typed("CLIP"), tooltip())
    .required_with("lora_name", lora_name(), tooltip())
    .required_with(
        "strength_model",
        Kind::Typed("FLOAT"),
        strength(100.0, true),
    )
    .required_with("strength_clip", Kind::Typed("FLOAT"), strength(100.0, true));
    NodeClass {
        definition,
        action: apply_to_both,
    }
}

fn model_only(
    class_type: &'static str,
    display_name: (&'static str, &'static str),
    bypass: bool,
) -> NodeClass {
    let definition = Definition {
        class_type,
        display_name,
        category: ("model/loaders", "loaders"),
        module: if bypass {
            "comfy_extras.nodes_lora_debug"
        } else {
            "nodes"
        },
        outputs: vec![("MODEL", "MODEL")],
        output_tooltips: true,
        experimental: bypass,
        essentials: (!bypass).then_some("Image Generation"),
        only_current: bypass,
        ..Definition::default()
    }
    .required("model", Kind::Typed("MODEL"))
    .required("lora_name", lora_name())
    .required_with(
        "strength_model",
        Kind::Typed("FLOAT"),
        strength(100.0, false),
    );
    NodeClass {
        definition,
        action: apply_to_model,
    }
}

fn hook(
    class_type: &'static str,
    display_name: (&'static str, &'static str),
    with_clip: bool,
) -> NodeClass {
    let mut definition = Definition {
        class_type,
        display_name,
        category: ("advanced/hooks/create", "advanced/hooks/create"),
        module: "comfy_extras.nodes_hooks",
        outputs: vec![("HOOKS", "HOOKS")],
        experimental: true,
        ..Definition::default()
    }
    .required("lora_name", lora_name())
    .required_with(
        "strength_model",
        Kind::Typed("FLOAT"),
        strength(20.0, false),
    );
    if with_clip {
        definition =
            definition.required_with("strength_clip", Kind::Typed("FLOAT"), strength(20.0, false));
    }
    NodeClass {
        definition: definition.optional("prev_hooks", Kind::Typed("HOOKS")),
        action: create_hook,
    }
}

fn apply_to_both(call: &Call<'_>) -> Result<Produced, Failure> {
    let (model, clip) = (call.opaque("model")?, call.opaque("clip")?);
    let (for_model, for_clip) = (call.float("strength_model")?, call.float("strength_clip")?);
    if for_model == 0.0 && for_clip == 0.0 {
        return Ok(Produced::slots([
            Slot::Opaque(MODEL_CLASS, model),
            Slot::Opaque(CLIP_CLASS, clip),
        ]));
    }
    let lora = loaded(call)?;
    Ok(Produced::slots([
        Slot::Opaque(MODEL_CLASS, patched(model, lora, for_model)),
        Slot::Opaque(CLIP_CLASS, patched(clip, lora, for_clip)),
    ]))
}

fn apply_to_model(call: &Call<'_>) -> Result<Produced, Failure> {
    let model = call.opaque("model")?;
    let strength = call.float("strength_model")?;
    if strength == 0.0 {
        return Ok(Produced::slots([Slot::Opaque(MODEL_CLASS, model)]));
    }
    Ok(Produced::slots([Slot::Opaque(
        MODEL_CLASS,
        patched(model, loaded(call)?, strength),
    )]))
}

fn create_hook(call: &Call<'_>) -> Result<Produced, Failure> {
    let before = if call.arguments.contains_key("prev_hooks") {
        call.opaque("prev_hooks")?
    } else {
        Digest::default()
    };
    let for_model = call.float("strength_model")?;
    let for_clip = if call.arguments.contains_key("strength_clip") {
        call.float("strength_clip")?
    } else {
        0.0
    };
    if for_model == 0.0 && for_clip == 0.0 {
        return Ok(Produced::slots([Slot::Opaque(
            "comfy.hooks.HookGroup",
            before,
        )]));
    }
    let hook = patched(
        patched(before, loaded(call)?, for_model),
        Digest::default(),
        for_clip,
    );
    Ok(Produced::slots([Slot::Opaque(
        "comfy.hooks.HookGroup",
        hook,
    )]))
}

/// What a LoRA makes of a model; with strength 0 it makes nothing of it.
fn patched(base: Digest, lora: Digest, strength: f64) -> Digest {
    if strength == 0.0 {
        return base;
    }
    digest([b"lora".as_slice(), &base, &lora, &strength.to_le_bytes()])
}

/// The content of the LoRA that the call names. Once loaded, a path keeps its content until memory is freed: a file that is replaced
/// under its name goes unnoticed.
fn loaded(call: &Call<'_>) -> Result<Digest, Failure> {
    let (instance, name) = (call.instance(), call.text("lora_name")?);
    let path = instance
        .models
        .path("loras", &name)
        .ok_or_else(|| not_found("loras", &name))?;
    if let Some(content) = instance.loaded_lora(&path) {
        return Ok(content);
    }
    let content = read_model_file(instance, "loras", &name)?;
    instance.keep_lora(path, content);
    Ok(content)
}

/// The digest of a model file, or the error that the real server raises at run time.
pub(super) fn read_model_file(
    instance: &Instance,
    folder: &str,
    name: &str,
) -> Result<Digest, Failure> {
    let path = instance
        .models
        .path(folder, name)
        .ok_or_else(|| not_found(folder, name))?;
    let mut file = File::open(&path).map_err(|error| unreadable(&error))?;
    let file_bytes = file.metadata().map_err(|error| unreadable(&error))?.len();
    if is_safetensors(&path) {
        check_safetensors(&mut file, file_bytes).map_err(|reason| {
            Failure::raised(
                "safetensors._safetensors_rust.SafetensorError",
                format!("Error while deserializing header: {reason}"),
            )
        })?;
    } else {
        check_pickle(&mut file)?;
    }
    file.rewind()
        .and_then(|()| digest_of(file))
        .map_err(|error| unreadable(&error))
}

/// A zip archive or a raw pickle, by its first bytes.
fn check_pickle(file: impl Read) -> Result<(), Failure> {
    let mut start = Vec::new();
    file.take(2)
        .read_to_end(&mut start)
        .map_err(|error| unreadable(&error))?;
    if start.starts_with(b"PK") || start.starts_with(b"\x80") {
        return Ok(());
    }
    let first = start
        .first()
        .map_or_else(String::new, |byte| char::from(*byte).to_string());
    Err(Failure::raised(
        "_pickle.UnpicklingError",
        format!("invalid load key, '{first}'."),
    ))
}

fn unreadable(error: &io::Error) -> Failure {
    Failure::raised(
        "OSError",
        format!(
            "[Errno {}] {error}",
            error.raw_os_error().unwrap_or_default()
        ),
    )
}

fn not_found(folder: &str, name: &str) -> Failure {
    Failure::raised(
        "FileNotFoundError",
        format!("Model in folder '{folder}' with filename '{name}' not found."),
    )
}

fn is_safetensors(path: &Path) -> bool {
    path.extension().is_some_and(|extension| {
        extension.eq_ignore_ascii_case("safetensors") || extension.eq_ignore_ascii_case("sft")
    })
}
