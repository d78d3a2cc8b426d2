//! The ways in which node classes name LoRAs: every core class and every custom convention of
//! `reference/comfyui/model_inputs.json`.

use serde_json::{Map, Value, json};

/// What the value of an input that names a LoRA looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The name alone.
    Name,
    /// rgthree's row, with the name as `lora`.
    Row,
    /// An object with the name as `name`.
    NamedRow,
    /// `<lora:name:1>` among words.
    Tag,
    /// LoRA Manager's list as its front end sends it.
    WrappedList,
    /// The same as scripts send it.
    List,
}

/// An input of a class.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Convention {
    pub(crate) class_type: &'static str,
    pub(crate) input: &'static str,
    pub(crate) shape: Shape,
    /// Whether the class loads the file at an exact path; others match names among everybody's.
    pub(crate) takes_paths: bool,
}

const fn paths(class_type: &'static str, input: &'static str, shape: Shape) -> Convention {
    Convention {
        class_type,
        input,
        shape,
        takes_paths: true,
    }
}

const fn fuzzy(class_type: &'static str, input: &'static str, shape: Shape) -> Convention {
    Convention {
        class_type,
        input,
        shape,
        takes_paths: false,
    }
}

/// A class of a pack that nobody knows.
pub(crate) const UNKNOWN: &str = "A Loader That Nobody Knows";

/// The classes of ComfyUI itself that read its LoRA folder.
pub(crate) const CORE: [Convention; 7] = [
    paths("CreateHookLora", "lora_name", Shape::Name),
    paths("CreateHookLoraModelOnly", "lora_name", Shape::Name),
    paths("LoraLoader", "lora_name", Shape::Name),
    paths("LoraLoaderBypass", "lora_name", Shape::Name),
    paths("LoraLoaderBypassModelOnly", "lora_name", Shape::Name),
    paths("LoraLoaderModelOnly", "lora_name", Shape::Name),
    paths("TrainLoraNode", "existing_lora", Shape::Name),
];

/// Those of custom packs, in the order of the reference, and what its generic rule makes of
/// classes that nobody knows.
pub(crate) const CUSTOM: [Convention; 30] = [
    paths("Power Lora Loader (rgthree)", "lora_1", Shape::Row),
    paths("Power Lora Loader (rgthree)", "LORA_extra", Shape::Row),
    paths("Lora Loader Stack (rgthree)", "lora_01", Shape::Name),
    paths("Lora Loader Stack (rgthree)", "lora_04", Shape::Name),
    paths("Power Prompt (rgthree)", "prompt", Shape::Tag),
    paths("Power Prompt - Simple (rgthree)", "prompt", Shape::Tag),
    paths(
        "SDXL Power Prompt - Positive (rgthree)",
        "prompt_g",
        Shape::Tag,
    ),
    paths(
        "SDXL Power Prompt - Positive (rgthree)",
        "prompt_l",
        Shape::Tag,
    ),
    paths("LoRA Stacker", "lora_name_1", Shape::Name),
    paths("LoRA Stacker", "lora_name_49", Shape::Name),
    paths("Efficient Loader", "lora_name", Shape::Name),
    paths("CR LoRA Stack", "lora_name_3", Shape::Name),
    paths("CR Load LoRA", "lora_name", Shape::Name),
    paths("easy loraStack", "lora_1_name", Shape::Name),
    paths("easy loraStack", "lora_10_name", Shape::Name),
    paths("ttN pipeLoraStack", "lora_2_name", Shape::Name),
    fuzzy("LoraTagLoader", "text", Shape::Tag),
    fuzzy("Lora Loader (LoraManager)", "loras", Shape::WrappedList),
    fuzzy("Lora Loader (LoraManager)", "loras", Shape::List),
    fuzzy("Lora Loader (LoraManager)", "text", Shape::Tag),
    fuzzy("LoRA Text Loader (LoraManager)", "lora_syntax", Shape::Tag),
    paths("PromptExtraNetworks", "prompt", Shape::Tag),
    fuzzy("LoRA Loader Prompt Tags", "text", Shape::Tag),
    paths(UNKNOWN, "lora_name", Shape::Name),
    paths(UNKNOWN, "LoraName_2", Shape::Name),
    paths(UNKNOWN, "lora_7", Shape::Name),
    paths(UNKNOWN, "lora", Shape::Name),
    fuzzy(UNKNOWN, "lora_slot", Shape::Row),
    fuzzy(UNKNOWN, "lora_slot", Shape::NamedRow),
    fuzzy(UNKNOWN, "caption", Shape::Tag),
];

/// All of them.
pub(crate) fn all() -> impl Iterator<Item = Convention> {
    CORE.into_iter().chain(CUSTOM)
}

impl Convention {
    /// The input's value that names a LoRA so.
    pub(crate) fn value(&self, name: &str) -> Value {
        let entry = json!({"name": name, "strength": 1.0, "clipStrength": 1.0, "active": true});
        match self.shape {
            Shape::Name => json!(name),
            Shape::Row => json!({"on": true, "lora": name, "strength": 1.0, "strengthTwo": null}),
            Shape::NamedRow => json!({"name": name}),
            Shape::Tag => json!(format!("a cat <lora:{name}:1> by a lake")),
            Shape::WrappedList => json!({"__value__": [entry]}),
            Shape::List => json!([entry]),
        }
    }

    /// A node that has this value in the input, and plausible ones in others.
    pub(crate) fn node(&self, value: Value) -> Value {
        let mut inputs = Map::from_iter([
            ("model".to_owned(), json!(["4", 0])),
            ("clip".to_owned(), json!(["4", 1])),
            ("strength_model".to_owned(), json!(1.0)),
            ("strength_clip".to_owned(), json!(1.0)),
            ("switch_3".to_owned(), json!("Off")),
        ]);
        inputs.insert(self.input.to_owned(), value);
        json!({"class_type": self.class_type, "inputs": inputs})
    }

    /// Where node `node` names its LoRA, in answers about a workflow.
    pub(crate) fn pointer(&self, node: &str) -> String {
        let row = if self.shape == Shape::Row && self.takes_paths {
            "/lora"
        } else {
            ""
        };
        format!("/workflow_json/{node}/inputs/{}{row}", self.input)
    }

    /// The name in the input of a node of a stored graph.
    pub(crate) fn name_in<'a>(&self, node: &'a Value) -> &'a str {
        let value = &node["inputs"][self.input];
        match self.shape {
            Shape::Row => value["lora"].as_str().expect("a name"),
            Shape::Tag => value
                .as_str()
                .and_then(|text| text.strip_prefix("a cat <lora:"))
                .and_then(|text| text.strip_suffix(":1> by a lake"))
                .expect("the text around the name stays as it is"),
            _ => value.as_str().expect("a name"),
        }
    }
}
