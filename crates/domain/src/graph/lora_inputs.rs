//! Finds every input of a graph that names a LoRA, and rewrites it.

use serde_json::{Map, Value};

use super::file_names::has_model_extension;
use super::findings::{Findings, input_pointer};
use super::link::{LinkShape, WRAPPER};
use super::lora_table::{
    LoraInputTable, POWER_LORA_LOADER, ignores_tags, is_lora_name, last_part, none_values,
    takes_tags,
};
use super::{NodeId, PromptGraph};
use crate::validation::Violation;

/// The member of a Power Lora Loader's row that names the file.
const POWER_MEMBER: &str = "lora";

/// Where a graph names a LoRA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraLocation {
    node_id: NodeId,
    input: String,
    member: Option<&'static str>,
}

impl LoraLocation {
    /// The node.
    pub fn node_id(&self) -> &NodeId {
        &self.node_id
    }

    /// The node's input.
    pub fn input(&self) -> &str {
        &self.input
    }

    /// The JSON pointer of the value, relative to the graph.
    pub fn pointer(&self) -> String {
        let mut pointer = input_pointer(self.node_id.as_str(), &self.input);
        if let Some(member) = self.member {
            pointer.push('/');
            pointer.push_str(member);
        }
        pointer
    }
}

/// What an input says about the LoRA it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoraValue {
    /// A file, by name or path; to be resolved.
    Name(String),
    /// The value comes over a link, so it cannot be checked.
    Linked,
    /// Something other than a string, such as an object of an unknown shape; it cannot be checked.
    Malformed,
    /// A text with `<lora:…>` tags, which the class matches against every user's files.
    Tag(String),
    /// A list of LoRAs by base name, as LoRA Manager keeps it; matched against every user's files.
    List,
}

impl LoraValue {
    /// The name to resolve, or why this value cannot be used at all, in the words of a violation.
    ///
    /// # Errors
    /// What to do instead, for every variant but [`LoraValue::Name`].
    pub fn name(&self) -> Result<&str, &'static str> {
        match self {
            Self::Name(name) => Ok(name),
            Self::Linked => Err(
                "must be a literal: a LoRA that comes over a link cannot be checked before the run",
            ),
            Self::Malformed => Err("must be a string that names a LoRA"),
            Self::Tag(_) => Err(
                "names LoRAs by tags in a text, which can pick other people's files; use a LoRA loader node instead",
            ),
            Self::List => Err(
                "names LoRAs without their folders, which can pick other people's files; use a LoRA loader node \
                 instead",
            ),
        }
    }
}

/// An input of a graph that names a LoRA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraInput {
    /// The node.
    pub node_id: NodeId,
    /// The node's class.
    pub class_type: String,
    /// The JSON pointer of the value, relative to the graph.
    pub pointer: String,
    /// Where to write the resolved path, with [`PromptGraph::with_loras`].
    pub location: LoraLocation,
    /// What is there now.
    pub value: LoraValue,
}

impl PromptGraph {
    /// Finds every input that names a LoRA, in the order of nodes and inputs; "no LoRA" is left out.
    ///
    /// A LoRA input is one that `table` knows, one whose name says so, a Power Lora Loader's row, a text with
    /// `<lora:…>` tags in any class that may act on them, or a model file's name in an input whose name holds "lora".
    /// Rows that are switched off count too.
    pub fn lora_inputs(&self, table: &LoraInputTable) -> Vec<LoraInput> {
        let mut found = Vec::new();
        for (id, node) in &self.nodes {
            for (input, value) in node.inputs() {
                if let Some((member, value)) = classify(node.class_type(), input, value, table) {
                    let location = LoraLocation {
                        node_id: id.clone(),
                        input: input.clone(),
                        member,
                    };
                    found.push(LoraInput {
                        node_id: id.clone(),
                        class_type: node.class_type().to_owned(),
                        pointer: location.pointer(),
                        location,
                        value,
                    });
                }
            }
        }
        found
    }

    /// Answers this graph with other LoRA paths at the given places.
    ///
    /// # Errors
    /// A place that this graph does not have: the location was found in another graph.
    pub fn with_loras(&self, paths: &[(LoraLocation, String)]) -> Result<Self, Vec<Violation>> {
        let mut findings = Findings::default();
        let mut graph = self.clone();
        for (location, path) in paths {
            match graph.lora_slot(location) {
                Some(slot) => *slot = Value::String(path.clone()),
                None => findings.add(|| location.pointer(), "is not an input of this graph"),
            }
        }
        findings.into_result(graph)
    }

    fn lora_slot(&mut self, location: &LoraLocation) -> Option<&mut Value> {
        let node = self.nodes.get_mut(&location.node_id)?;
        let value = node.inputs.get_mut(&location.input)?;
        match location.member {
            None => Some(value),
            Some(member) => value.as_object_mut()?.get_mut(member),
        }
    }
}

type Found = (Option<&'static str>, LoraValue);

fn classify(class_type: &str, input: &str, value: &Value, table: &LoraInputTable) -> Option<Found> {
    let found = |value| Some((None, value));
    let is_link = LinkShape::of(value).is_some();
    if table.contains(class_type, input) {
        return named(class_type, value).and_then(found);
    }
    let lower = last_part(input).to_ascii_lowercase();
    if class_type == POWER_LORA_LOADER && lower.starts_with("lora_") {
        return power_row(value);
    }
    if takes_tags(class_type, input) && is_link {
        return found(LoraValue::Linked);
    }
    if lower == "loras" && (value.is_array() || value.is_object()) {
        return match value {
            _ if is_link => found(LoraValue::Linked),
            list if is_filled(list) => found(LoraValue::List),
            _ => None,
        };
    }
    if let Some(text) = tagged_text(value)
        && !ignores_tags(class_type)
    {
        return found(LoraValue::Tag(text.to_owned()));
    }
    if is_lora_name(&lower) {
        // A number or a switch of that name cannot name a file.
        return if value.is_number() || value.is_boolean() {
            None
        } else {
            named(class_type, value).and_then(found)
        };
    }
    match value {
        // Over a link, an input of this name takes a LoRA that the graph itself trained.
        Value::String(_) if lower == "lora" => named(class_type, value).and_then(found),
        Value::Object(members) if lower.starts_with("lora") && names_a_file(members) => {
            found(LoraValue::Malformed)
        }
        Value::String(text) if lower.contains("lora") && has_model_extension(text) => {
            found(LoraValue::Name(text.clone()))
        }
        _ => None,
    }
}

fn named(class_type: &str, value: &Value) -> Option<LoraValue> {
    match value {
        Value::String(name) if none_values(class_type).contains(&name.as_str()) => None,
        Value::String(name) => Some(LoraValue::Name(name.clone())),
        Value::Null if !none_values(class_type).is_empty() => None,
        _ if LinkShape::of(value).is_some() => Some(LoraValue::Linked),
        _ => Some(LoraValue::Malformed),
    }
}

/// A row of the Power Lora Loader. An empty name is a name: the class would take the first file that it finds.
fn power_row(value: &Value) -> Option<Found> {
    match value {
        Value::Null => None,
        Value::Object(members) => match members.get(POWER_MEMBER) {
            Some(Value::String(name)) => Some((Some(POWER_MEMBER), LoraValue::Name(name.clone()))),
            Some(Value::Null) => None,
            None if !members.contains_key(WRAPPER) => None,
            Some(_) | None => Some((None, LoraValue::Malformed)),
        },
        _ if LinkShape::of(value).is_some() => Some((None, LoraValue::Linked)),
        _ => Some((None, LoraValue::Malformed)),
    }
}

fn is_filled(value: &Value) -> bool {
    match value {
        Value::Array(items) => !items.is_empty(),
        Value::Object(members) => match members.get(WRAPPER) {
            Some(wrapped) => is_filled(wrapped),
            None => !members.is_empty(),
        },
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn names_a_file(members: &Map<String, Value>) -> bool {
    [POWER_MEMBER, "name", WRAPPER]
        .iter()
        .any(|member| members.get(*member).is_some_and(|value| !value.is_null()))
}

/// The first text within `value` that holds a `<lora:…>` tag. Its depth is bounded by the graph's.
fn tagged_text(value: &Value) -> Option<&str> {
    match value {
        Value::String(text) => has_tag(text).then_some(text),
        Value::Array(items) => items.iter().find_map(tagged_text),
        Value::Object(members) => members.values().find_map(tagged_text),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}

/// Wider than any pack's own pattern: `<`, blanks, `lora` in any case, blanks, `:`.
fn has_tag(text: &str) -> bool {
    text.split('<').skip(1).any(|after| {
        let after = after.trim_start();
        after
            .get(..4)
            .is_some_and(|word| word.eq_ignore_ascii_case("lora"))
            && after
                .get(4..)
                .is_some_and(|rest| rest.trim_start().starts_with(':'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_seen_however_they_are_written() {
        assert!(has_tag("a cat <lora:style:0.8>"));
        assert!(has_tag("< LoRA : style>"));
        assert!(!has_tag("a <b> lora: c"));
        assert!(!has_tag("<lorax:1>"));
    }
}
