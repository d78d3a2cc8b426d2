//! What `object_info` says that a backend offers.

use std::collections::{BTreeMap, BTreeSet};

use atelier_domain::graph::has_model_extension;
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::LoraCatalogue;
use serde_json::{Map, Value};

use super::input_files::InputFiles;

/// How deep inputs stand in inputs at most.
const MAX_DEPTH: u32 = 4;

/// How many members an input that grows is taken to have at most.
const MAX_MEMBERS: usize = 100;

/// The longest name, of a class or a file, that is taken.
const MAX_NAME_BYTES: usize = 1_000;

/// How many names of classes, and how many options in all, are taken. A backend
/// with everything has some thousands of each.
const MAX_CLASSES: usize = 50_000;
const MAX_OPTIONS: usize = 500_000;

/// Sorts out the inputs that name files, once it is known which of those are
/// LoRAs: `listed` now, and `before` too if they came or went meanwhile.
pub(super) fn offered(
    classes: &Map<String, Value>,
    listed: BTreeSet<String>,
    before: &BTreeSet<String>,
) -> LoraCatalogue {
    let loras: BTreeSet<&str> = before.union(&listed).map(String::as_str).collect();
    let mut inputs = BTreeSet::new();
    let mut models = Models::default();
    let files = InputFiles::of(classes);
    let mut input_files = BTreeSet::new();
    let sound = classes
        .iter()
        .filter(|(name, _)| name.len() <= MAX_NAME_BYTES)
        .take(MAX_CLASSES);
    let mut names = BTreeSet::new();
    for (class_type, class) in sound {
        names.insert(class_type.clone());
        for declared in inputs_of(class) {
            let input = (class_type.clone(), declared.name);
            if files.has(declared.specification) {
                input_files.insert(input);
                continue;
            }
            let Some(options) = declared.choices else {
                continue;
            };
            if are_loras(&options, &loras) {
                inputs.insert(input);
            } else {
                models.add(input, &options, &loras);
            }
        }
    }
    LoraCatalogue {
        files: listed,
        inputs,
        classes: names,
        models: models.found,
        input_files,
    }
}

/// The inputs that offer model files, or nothing at all: perhaps the folder is
/// empty.
#[derive(Default)]
struct Models {
    found: BTreeMap<(String, String), BTreeSet<String>>,
    options: usize,
}

impl Models {
    fn add(&mut self, input: (String, String), options: &[&str], loras: &BTreeSet<&str>) {
        let is_theirs = |name: &str| loras.contains(name) || LoraPath::parse(name).is_ok();
        let names: BTreeSet<_> = options
            .iter()
            .filter(|name| name.len() <= MAX_NAME_BYTES && !is_theirs(name))
            .take(MAX_OPTIONS - self.options)
            .map(|name| (*name).to_owned())
            .collect();
        // What offers nothing takes nothing.
        if options.is_empty() || names.iter().any(|name| is_model_file(name)) {
            self.options += names.len();
            self.found.insert(input, names);
        }
    }
}

fn is_model_file(name: &str) -> bool {
    // An extension alone names nothing.
    name.rfind('.') != Some(0) && has_model_extension(name)
}

/// The inputs of a class that a user may set.
fn inputs_of(class: &Value) -> Vec<Declared<'_>> {
    let mut found = Vec::new();
    if let Some(inputs) = class.get("input") {
        collect(inputs, "", MAX_DEPTH, &mut found);
    }
    found
}

/// An input, by what its class says of it.
struct Declared<'a> {
    name: String,
    specification: &'a Value,
    /// What it offers to choose from.
    choices: Option<Vec<&'a str>>,
}

/// Looks through the groups of inputs that a user may set; what is hidden is
/// filled in by the backend. Inputs in inputs are named `outer.inner`.
fn collect<'a>(inputs: &'a Value, prefix: &str, depth: u32, found: &mut Vec<Declared<'a>>) {
    let groups = ["required", "optional"]
        .into_iter()
        .filter_map(|group| inputs.get(group)?.as_object());
    for (name, specification) in groups.flatten() {
        let name = format!("{prefix}{name}");
        if depth > 0 {
            collect_inner(specification, &name, depth - 1, found);
        }
        let choices = options(specification).and_then(|options| {
            let texts = options.iter().filter_map(Value::as_str).collect::<Vec<_>>();
            // Numbers to choose from are no files.
            (texts.len() == options.len()).then_some(texts)
        });
        found.push(Declared {
            name,
            specification,
            choices,
        });
    }
}

/// `[[options], {}]`, or `["COMBO", {"options": [...]}]`
/// (`reference/comfyui/PROTOCOL.md` section 9).
pub(super) fn options(specification: &Value) -> Option<&Vec<Value>> {
    match specification.get(0)? {
        Value::Array(options) => Some(options),
        Value::String(kind) if kind == "COMBO" => specification.get(1)?.get("options")?.as_array(),
        _ => None,
    }
}

/// Inputs that bring others: each choice of a dynamic combo its own, and one
/// that grows a number of the same.
fn collect_inner<'a>(
    specification: &'a Value,
    name: &str,
    depth: u32,
    found: &mut Vec<Declared<'a>>,
) {
    let Some(details) = specification.get(1) else {
        return;
    };
    match specification.get(0).and_then(Value::as_str) {
        Some("COMFY_DYNAMICCOMBO_V3") => {
            let choices = details.get("options").and_then(Value::as_array);
            for choice in choices.into_iter().flatten() {
                if let Some(inputs) = choice.get("inputs") {
                    collect(inputs, &format!("{name}."), depth, found);
                }
            }
        }
        Some("COMFY_DYNAMICSLOT_V3") => {
            if let Some(inputs) = details.get("inputs") {
                collect(inputs, &format!("{name}."), depth, found);
            }
        }
        Some("COMFY_AUTOGROW_V3") => collect_growing(details, name, depth, found),
        _ => {}
    }
}

fn collect_growing<'a>(details: &'a Value, name: &str, depth: u32, found: &mut Vec<Declared<'a>>) {
    let Some(template) = details.get("template") else {
        return;
    };
    let mut inner = Vec::new();
    if let Some(inputs) = template.get("input") {
        collect(inputs, "", depth, &mut inner);
    }
    let Some(first) = inner.into_iter().next() else {
        return;
    };
    for member in members(template) {
        found.push(Declared {
            name: format!("{name}.{member}"),
            specification: first.specification,
            choices: first.choices.clone(),
        });
    }
}

/// The names of the members of an input that grows: told, or counted from 0.
fn members(template: &Value) -> Vec<String> {
    if let Some(names) = template.get("names").and_then(Value::as_array) {
        let names = names.iter().filter_map(Value::as_str).take(MAX_MEMBERS);
        return names.map(str::to_owned).collect();
    }
    let prefix = template.get("prefix").and_then(Value::as_str);
    let most = template.get("max").and_then(Value::as_u64);
    let most = most.and_then(|most| usize::try_from(most).ok());
    let count = most.unwrap_or(MAX_MEMBERS).min(MAX_MEMBERS);
    let numbered = |prefix: &str| (0..count).map(|n| format!("{prefix}{n}")).collect();
    prefix.map(numbered).unwrap_or_default()
}

/// Whether these are LoRA files, all of them, and at least one.
fn are_loras(options: &[&str], files: &BTreeSet<&str>) -> bool {
    let mut names = options.iter().filter(|name| !is_nothing(name)).peekable();
    names.peek().is_some() && names.all(|name| files.contains(name))
}

/// The option for "no LoRA" that some loaders put before the files.
fn is_nothing(text: &str) -> bool {
    text.trim_matches(['[', ']']).eq_ignore_ascii_case("none")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OTHERS: &str = "user-11111111-2222-4333-8444-55555555abcd/secret.safetensors";

    fn read(classes: &Value, files: &[&str]) -> LoraCatalogue {
        let files: BTreeSet<_> = files.iter().map(|file| (*file).to_owned()).collect();
        offered(classes.as_object().unwrap(), files.clone(), &files)
    }

    fn inputs(catalogue: &LoraCatalogue) -> Vec<String> {
        let inputs = catalogue.inputs.iter();
        inputs
            .map(|(class_type, input)| format!("{class_type}.{input}"))
            .collect()
    }

    fn models(catalogue: &LoraCatalogue) -> Vec<String> {
        let models = catalogue.models.iter();
        models
            .map(|((class_type, input), options)| {
                let options: Vec<_> = options.iter().map(String::as_str).collect();
                format!("{class_type}.{input}: {}", options.join(" "))
            })
            .collect()
    }

    #[test]
    fn an_empty_folder_is_an_offer_of_nothing() {
        let classes = json!({
            "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [[], {}]}}},
            "KSampler": {"input": {"required": {"seed": ["INT"], "scheduler": [["normal"], {}]}}}
        });

        assert_eq!(
            models(&read(&classes, &[])),
            ["CheckpointLoaderSimple.ckpt_name: "]
        );
    }

    #[test]
    fn both_shapes_of_options_are_read() {
        let classes = json!({
            "LoraLoader": {"input": {"required": {
                "lora_name": [["a.safetensors", OTHERS], {"tooltip": "x"}],
                "strength_model": ["FLOAT", {"default": 1.0}]
            }}},
            "TrainLoraNode": {"input": {"optional": {
                "existing_lora": ["COMBO", {"options": ["[None]", "a.safetensors", OTHERS]}]
            }}},
            "Stack": {"input": {"required": {"lora_1": [["None", "a.safetensors"]]}}},
            "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["sd15.safetensors", "xl/b.CKPT"]]}}},
            "UpscaleModelLoader": {"input": {"required": {"model_name": ["COMBO", {"options": ["4x.pth"]}]}}},
            "VAELoader": {"input": {"required": {"vae_name": [["vae.pt", "taesd"]]}}},
            "KSampler": {"input": {"required": {"scheduler": [["normal", "karras"], {}]}}}
        });

        let catalogue = read(&classes, &["a.safetensors", OTHERS]);

        assert_eq!(
            inputs(&catalogue),
            [
                "LoraLoader.lora_name",
                "Stack.lora_1",
                "TrainLoraNode.existing_lora"
            ]
        );
        assert_eq!(
            models(&catalogue),
            [
                "CheckpointLoaderSimple.ckpt_name: sd15.safetensors xl/b.CKPT",
                "UpscaleModelLoader.model_name: 4x.pth",
                "VAELoader.vae_name: taesd vae.pt"
            ]
        );
        assert_eq!(catalogue.classes.len(), 7);
        assert!(catalogue.classes.contains("KSampler"));
    }

    #[test]
    fn a_lora_is_no_model_of_another_input() {
        let classes = json!({
            "Any": {"input": {"required": {"file": [["a.safetensors", "model.gguf", OTHERS]]}}},
            "Late": {"input": {"required": {"file": [[OTHERS, "None"]]}}}
        });

        let catalogue = read(&classes, &["a.safetensors"]);

        assert_eq!(models(&catalogue), ["Any.file: model.gguf"]);
        assert!(catalogue.inputs.is_empty());
    }

    #[test]
    fn inputs_within_inputs_are_read() {
        let lora = json!([["a.safetensors"], {}]);
        let classes = json!({
            "Dynamic": {"input": {"required": {"mode": ["COMFY_DYNAMICCOMBO_V3", {"options": [
                {"key": "none", "inputs": {"required": {}}},
                {"key": "one", "inputs": {"required": {"lora": lora}, "optional": {
                    "deep": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"key": "x", "inputs": {"required": {"lora": lora}}}]}]
                }}}
            ]}]}}},
            "Growing": {"input": {"optional": {"loras": ["COMFY_AUTOGROW_V3", {"template": {
                "input": {"required": {"lora": lora}}, "prefix": "lora", "min": 1, "max": 2
            }}]}}},
            "Named": {"input": {"required": {"loras": ["COMFY_AUTOGROW_V3", {"template": {
                "input": {"required": {"lora": lora}}, "names": ["first", "second"]
            }}]}}},
            "Hidden": {"input": {"hidden": {"lora": lora}}}
        });

        let catalogue = read(&classes, &["a.safetensors"]);

        assert_eq!(
            inputs(&catalogue),
            [
                "Dynamic.mode.deep.lora",
                "Dynamic.mode.lora",
                "Growing.loras.lora0",
                "Growing.loras.lora1",
                "Named.loras.first",
                "Named.loras.second"
            ]
        );
    }

    #[test]
    fn without_files_no_input_is_a_lora_input() {
        let classes = json!({
            "LoraLoader": {"input": {"required": {"lora_name": [[], {}]}}},
            "Other": {"input": {"required": {"x": [["None"]], "y": ["COMBO", {"options": []}]}}}
        });

        let catalogue = read(&classes, &[]);

        assert!(catalogue.inputs.is_empty());
        assert!(catalogue.models.values().all(BTreeSet::is_empty));
        assert_eq!(catalogue.classes.len(), 2);
    }

    #[test]
    fn input_files_are_known_by_their_flags_and_by_what_they_offer() {
        let classes = json!({
            "LoadImage": {"input": {"required": {"image": [["example.png"], {"image_upload": true}]}}},
            "LoadVideo": {"input": {"required": {"file": ["COMBO", {"options": [], "video_upload": true}]}}},
            "Load3D": {"input": {"required": {"model_file": ["COMBO", {"file_upload": "model", "options": []}]}}},
            "Odd": {"input": {"optional": {"first": ["STRING", {"upload": true}], "second": [["a"], {"image_upload": false}]}}},
            "Lister": {"input": {"required": {"any": [["clip.mp4", "example.png"]], "mode": [["x", "y"]]}}},
            "LoadImageOutput": {"input": {"required": {"image": ["COMBO", {"image_upload": true, "image_folder": "output"}]}}},
            "Nested": {"input": {"required": {"mode": ["COMFY_DYNAMICCOMBO_V3", {"options": [
                {"key": "a", "inputs": {"required": {"picture": [[], {"image_upload": true}]}}}
            ]}]}}}
        });

        let catalogue = read(&classes, &[]);

        let files: Vec<_> = catalogue
            .input_files
            .iter()
            .map(|(class_type, input)| format!("{class_type}.{input}"))
            .collect();
        assert_eq!(
            files,
            [
                "Lister.any",
                "Load3D.model_file",
                "LoadImage.image",
                "LoadVideo.file",
                "Nested.mode.picture",
                "Odd.first"
            ]
        );
        assert!(catalogue.models.is_empty(), "{:?}", catalogue.models);
    }

    #[test]
    fn odd_classes_are_passed_over() {
        let mut nested = json!({"required": {"x": [["a"]]}});
        for _ in 0..20 {
            nested = json!({"required": {"x": ["COMFY_DYNAMICCOMBO_V3", {"options": [{"inputs": nested}]}]}});
        }
        let classes = json!({
            "A": null, "B": {"input": []}, "C": {"input": {"required": [1]}}, "D": {"input": {"required": {"x": {}}}},
            "E": {"input": {"required": {"x": [[1, 2]], "y": ["COMBO"], "z": []}}},
            "F": {"input": nested},
            "G": {"input": {"required": {"x": ["COMFY_AUTOGROW_V3", {"template": {"max": -1}}], "y": ["COMFY_DYNAMICCOMBO_V3"]}}}
        });

        assert!(read(&classes, &["a"]).inputs.is_empty());
    }
}
