//! Which inputs of which classes take a LoRA.
//!
//! The facts are those of `reference/comfyui/model_inputs.json`: core classes as found by experiment on ComfyUI 0.33,
//! custom packs as read in their sources.

use std::collections::{BTreeSet, HashMap};

use super::lora_tags::TagSyntax;

/// Core classes, each with its LoRA input and the values that mean "no LoRA".
const CORE: [(&str, &str, &[&str]); 7] = [
    ("CreateHookLora", "lora_name", &[]),
    ("CreateHookLoraModelOnly", "lora_name", &[]),
    ("LoraLoader", "lora_name", &[]),
    ("LoraLoaderBypass", "lora_name", &[]),
    ("LoraLoaderBypassModelOnly", "lora_name", &[]),
    ("LoraLoaderModelOnly", "lora_name", &[]),
    ("TrainLoraNode", "existing_lora", &["[None]"]),
];

/// What custom loaders offer for "no LoRA".
const CUSTOM_NONE: &[&str] = &["None", "[None]"];

/// The custom loader whose rows are objects `{on, lora, strength}`. It matches names fuzzily, but an exact path
/// always wins.
pub(super) const POWER_LORA_LOADER: &str = "Power Lora Loader (rgthree)";

/// What the Power Prompts offer in their list of LoRAs besides files.
const POWER_PROMPT_NONE: &[&str] = &["CHOOSE", "DISABLE LORAS", "None"];

/// Classes that load LoRAs named by tags in a text, the inputs that may hold the text, and the syntax of the tags
/// where an exact path always wins. Where there is none, the class never looks at a folder, or at scores alone.
const TAG_LOADERS: [(&str, &[&str], Option<TagSyntax>); 12] = [
    (
        "ImpactWildcardEncode",
        &["wildcard_text", "populated_text"],
        None,
    ),
    (
        "ImpactWildcardProcessor",
        &["wildcard_text", "populated_text"],
        None,
    ),
    ("LoRA Loader Prompt Tags", &["prompt", "text"], None),
    ("LoRA Text Loader (LoraManager)", &["lora_syntax"], None),
    ("LoraTagLoader", &["text"], None),
    ("Lora Loader (LoraManager)", &["text"], None),
    ("Lora Stacker (LoraManager)", &["text"], None),
    ("Power Prompt (rgthree)", &["prompt"], Some(ONE_WEIGHT)),
    (
        "Power Prompt - Simple (rgthree)",
        &["prompt"],
        Some(ONE_WEIGHT),
    ),
    (
        "PromptExtraNetworks",
        &["prompt", "text"],
        Some(TagSyntax { weights: 2 }),
    ),
    (
        "SDXL Power Prompt - Positive (rgthree)",
        &["prompt_g", "prompt_l"],
        Some(ONE_WEIGHT),
    ),
    (
        "SDXL Power Prompt - Simple / Negative (rgthree)",
        &["prompt_g", "prompt_l"],
        Some(ONE_WEIGHT),
    ),
];

const ONE_WEIGHT: TagSyntax = TagSyntax { weights: 1 };

/// Core classes that encode a text as it stands: a tag in it is just words.
const PLAIN_ENCODERS: [&str; 13] = [
    "CLIPTextEncode",
    "CLIPTextEncodeControlnet",
    "CLIPTextEncodeFlux",
    "CLIPTextEncodeHiDream",
    "CLIPTextEncodeHunyuanDiT",
    "CLIPTextEncodeLumina2",
    "CLIPTextEncodePixArtAlpha",
    "CLIPTextEncodeSD3",
    "CLIPTextEncodeSDXL",
    "CLIPTextEncodeSDXLRefiner",
    "TextEncodeAceStepAudio",
    "TextEncodeQwenImageEdit",
    "TextEncodeQwenImageEditPlus",
];

/// The inputs known to take a LoRA: those of ComfyUI's core, and those that a backend's `object_info` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoraInputTable {
    offered: HashMap<String, BTreeSet<String>>,
}

impl LoraInputTable {
    /// The core classes alone, for when no backend's catalogue is known.
    pub fn core() -> Self {
        Self::default()
    }

    /// Adds an input whose options come from a backend's loras folder.
    pub fn extend_with(&mut self, class_type: impl Into<String>, input: impl Into<String>) {
        self.offered
            .entry(class_type.into())
            .or_default()
            .insert(input.into());
    }

    /// Whether this input of this class is known to take a LoRA.
    pub fn contains(&self, class_type: &str, input: &str) -> bool {
        CORE.iter()
            .any(|(class, name, _)| *class == class_type && *name == input)
            || self
                .offered
                .get(class_type)
                .is_some_and(|inputs| inputs.contains(input))
    }
}

impl<Class: Into<String>, Input: Into<String>> FromIterator<(Class, Input)> for LoraInputTable {
    fn from_iter<Pairs: IntoIterator<Item = (Class, Input)>>(pairs: Pairs) -> Self {
        let mut table = Self::core();
        for (class_type, input) in pairs {
            table.extend_with(class_type, input);
        }
        table
    }
}

/// The values that mean "no LoRA" to a class.
pub(super) fn none_values(class_type: &str) -> &'static [&'static str] {
    if class_type.contains("Power Prompt") && class_type.ends_with("(rgthree)") {
        return POWER_PROMPT_NONE;
    }
    CORE.iter()
        .find(|(class, ..)| *class == class_type)
        .map_or(CUSTOM_NONE, |(.., none)| none)
}

/// Whether a class loads LoRAs by tags in the text that this input holds.
pub(super) fn takes_tags(class_type: &str, input: &str) -> bool {
    TAG_LOADERS
        .iter()
        .any(|(class, inputs, _)| *class == class_type && inputs.contains(&input))
}

/// The syntax of the tags in the text that this input holds, where the class takes exact paths.
pub(super) fn tag_syntax(class_type: &str, input: &str) -> Option<TagSyntax> {
    TAG_LOADERS
        .iter()
        .find(|(class, inputs, _)| *class == class_type && inputs.contains(&input))
        .and_then(|(.., syntax)| *syntax)
}

/// Whether a class replaces choices and wildcards in a text before it looks for tags.
pub(super) fn expands_texts(class_type: &str) -> bool {
    class_type.starts_with("easy ") || class_type.to_ascii_lowercase().contains("wildcard")
}

/// Whether a class is known to give tags in a text no meaning.
pub(super) fn ignores_tags(class_type: &str) -> bool {
    PLAIN_ENCODERS.contains(&class_type)
}

/// Whether an input's name says "a LoRA's file name": `lora_name`, `lora_name_2`, `lora_2_name`, `lora_02`, in any
/// case; the reference's rule `^lora(_?\d+)?_?name(_?\d+)?$|^lora_\d+$`.
pub(super) fn is_lora_name(input: &str) -> bool {
    let lower = input.to_ascii_lowercase();
    let Some(rest) = lower.strip_prefix("lora") else {
        return false;
    };
    if rest.strip_prefix('_').is_some_and(is_number) {
        return true;
    }
    let Some((before, after)) = rest.split_once("name") else {
        return false;
    };
    is_optional_number(before.strip_suffix('_').unwrap_or(before)) && is_optional_number(after)
}

/// The name that a class gave an input: newer classes nest inputs, as in `mode.lora_name`.
pub(super) fn last_part(input: &str) -> &str {
    input.rsplit('.').next().unwrap_or(input)
}

fn is_optional_number(text: &str) -> bool {
    text.is_empty() || is_number(text.strip_prefix('_').unwrap_or(text))
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_known_packs_are_lora_names() {
        for name in [
            "lora_name",
            "LORA_NAME",
            "loraname",
            "lora_01",
            "lora_4",
            "lora_name_1",
            "lora_name49",
            "lora_1_name",
            "lora1_name",
            "lora_10name",
        ] {
            assert!(is_lora_name(name), "{name}");
        }
    }

    #[test]
    fn strengths_and_stacks_are_not() {
        for name in [
            "lora",
            "lora_wt_1",
            "lora_1_strength",
            "lora_stack",
            "lora_count",
            "lora_",
            "lora__name",
            "lora_name_",
            "xlora_1",
            "lora_1_model_strength",
            "lora_namex",
            "loras",
            "lora1",
        ] {
            assert!(!is_lora_name(name), "{name}");
        }
    }

    #[test]
    fn a_backend_can_add_inputs() {
        let mut table = LoraInputTable::core();
        table.extend_with("MyLoader", "weights");

        assert!(table.contains("MyLoader", "weights"));
        assert!(table.contains("LoraLoader", "lora_name"));
        assert!(!table.contains("LoraLoader", "weights"));
    }
}
