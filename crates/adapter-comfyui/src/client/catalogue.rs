use std::collections::BTreeSet;

use atelier_domain::ports::{ComfyError, LoraCatalogue};
use reqwest::StatusCode;
use serde_json::{Map, Value};

use super::backend::Backend;

impl Backend {
    pub(crate) async fn lora_catalogue(&self) -> Result<LoraCatalogue, ComfyError> {
        // Listed before and after: a file that comes in between stands in the options, too.
        let before = self.lora_files().await?;
        let answer = self
            .transport
            .get("/object_info", &["object_info"], self.transport.catalogue())
            .await?;
        let classes: Map<String, Value> = answer.json()?;
        let files = self.lora_files().await?;
        let inputs = lora_inputs(
            &classes,
            &before.union(&files).map(String::as_str).collect(),
        );
        Ok(LoraCatalogue { files, inputs })
    }

    async fn lora_files(&self) -> Result<BTreeSet<String>, ComfyError> {
        let answer = self
            .transport
            .get("/models/loras", &["models", "loras"], self.transport.long())
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(BTreeSet::new());
        }
        answer.json()
    }
}

/// The inputs whose options are LoRA files, all of them, and at least one.
fn lora_inputs(classes: &Map<String, Value>, files: &BTreeSet<&str>) -> BTreeSet<(String, String)> {
    let mut found = BTreeSet::new();
    for (class_type, class) in classes {
        let groups = ["required", "optional"]
            .into_iter()
            .filter_map(|group| class.get("input")?.get(group)?.as_object());
        for (name, specification) in groups.flatten() {
            if options(specification).is_some_and(|options| are_loras(options, files)) {
                found.insert((class_type.clone(), name.clone()));
            }
        }
    }
    found
}

/// `[[options], {}]`, or `["COMBO", {"options": [...]}]`
/// (`reference/comfyui/PROTOCOL.md` section 9).
fn options(specification: &Value) -> Option<&Vec<Value>> {
    match specification.get(0)? {
        Value::Array(options) => Some(options),
        Value::String(kind) if kind == "COMBO" => specification.get(1)?.get("options")?.as_array(),
        _ => None,
    }
}

fn are_loras(options: &[Value], files: &BTreeSet<&str>) -> bool {
    let mut names = options
        .iter()
        .filter(|option| !is_nothing(option))
        .peekable();
    names.peek().is_some()
        && names.all(|option| option.as_str().is_some_and(|name| files.contains(name)))
}

/// The option for "no LoRA" that some loaders put before the files.
fn is_nothing(option: &Value) -> bool {
    option
        .as_str()
        .is_some_and(|text| text.trim_matches(['[', ']']).eq_ignore_ascii_case("none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn inputs(classes: &Value, files: &[&str]) -> Vec<String> {
        let found = lora_inputs(
            classes.as_object().unwrap(),
            &files.iter().copied().collect(),
        );
        found
            .into_iter()
            .map(|(class_type, input)| format!("{class_type}.{input}"))
            .collect()
    }

    #[test]
    fn both_shapes_of_options_are_read() {
        let classes = json!({
            "LoraLoader": {"input": {"required": {
                "lora_name": [["a.safetensors", "user-1/b.safetensors"], {"tooltip": "x"}],
                "strength_model": ["FLOAT", {"default": 1.0}]
            }}},
            "TrainLoraNode": {"input": {"optional": {
                "existing_lora": ["COMBO", {"options": ["[None]", "a.safetensors", "user-1/b.safetensors"]}]
            }}},
            "Stack": {"input": {"required": {"lora_1": [["None", "a.safetensors"]]}}},
            "CheckpointLoaderSimple": {"input": {"required": {"ckpt_name": [["sd15.safetensors"]]}}},
            "KSampler": {"input": {"required": {"scheduler": [["normal", "karras"], {}]}}}
        });

        let found = inputs(&classes, &["a.safetensors", "user-1/b.safetensors"]);

        assert_eq!(
            found,
            [
                "LoraLoader.lora_name",
                "Stack.lora_1",
                "TrainLoraNode.existing_lora"
            ]
        );
    }

    #[test]
    fn without_files_no_input_is_a_lora_input() {
        let classes = json!({
            "LoraLoader": {"input": {"required": {"lora_name": [[], {}]}}},
            "Other": {"input": {"required": {"x": [["None"]], "y": ["COMBO", {"options": []}]}}}
        });

        assert!(inputs(&classes, &[]).is_empty());
    }

    #[test]
    fn odd_classes_are_passed_over() {
        let classes = json!({
            "A": null, "B": {"input": []}, "C": {"input": {"required": [1]}}, "D": {"input": {"required": {"x": {}}}},
            "E": {"input": {"required": {"x": [[1, 2]], "y": ["COMBO"], "z": []}}}
        });

        assert!(inputs(&classes, &["a"]).is_empty());
    }
}
