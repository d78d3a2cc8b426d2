//! Finds every input of a graph that names a LoRA, and rewrites it.

use serde_json::{Map, Value};

use super::file_names::has_model_extension;
use super::findings::{Findings, input_pointer};
use super::link::{LinkShape, WRAPPER, may_become_link};
use super::lora_table::{
    LoraInputTable, POWER_LORA_LOADER, expands_texts, ignores_tags, is_lora_name, last_part,
    none_values, tag_syntax, takes_tags,
};
use super::lora_tags::{fits_tag, has_tag, may_make_tag, tag_names};
use super::{NodeId, PromptGraph};
use crate::validation::Violation;

/// The member of a Power Lora Loader's row that names the file.
const POWER_MEMBER: &str = "lora";

/// Where a graph names a LoRA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraLocation {
    node_id: NodeId,
    input: String,
    within: Within,
}

/// Which part of an input's value is the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// All of it.
    Whole,
    /// A member of the object.
    Member(&'static str),
    /// The name in the how-manyth tag of the text, from 0.
    Tag(usize),
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

    /// Whether the name stands in a `<lora:…>` tag, one of perhaps several in the input's text.
    pub fn is_tag(&self) -> bool {
        matches!(self.within, Within::Tag(_))
    }

    /// The JSON pointer of the value, relative to the graph; that of the whole text for a tag.
    pub fn pointer(&self) -> String {
        let mut pointer = input_pointer(self.node_id.as_str(), &self.input);
        if let Within::Member(member) = self.within {
            pointer.push('/');
            pointer.push_str(member);
        }
        pointer
    }
}

/// What an input says about the LoRA it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoraValue {
    /// A file, by name or path, alone or in a tag; to be resolved.
    Name(String),
    /// The value comes over a link, so it cannot be checked.
    Linked,
    /// Something other than a string, such as an object of an unknown shape; it cannot be checked.
    Malformed,
    /// A text with `<lora:…>` tags which the class matches against every user's files, or which are not written as
    /// the class reads them.
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
                "names LoRAs by tags that can pick other people's files or are not written as \"<lora:name:weight>\"; \
                 use a LoRA loader node instead",
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

impl LoraInput {
    /// Whether the class would take a file whose name is like the one that is named, perhaps somebody's, if that were
    /// gone (`reference/comfyui/model_inputs.json`); an exact path always wins.
    pub fn matches_loosely(&self) -> bool {
        self.class_type == POWER_LORA_LOADER || self.location.is_tag()
    }
}

impl PromptGraph {
    /// Finds every input that names a LoRA, in the order of nodes and inputs; "no LoRA" is left out.
    ///
    /// A LoRA input is one that `table` knows, one whose name says so, a Power Lora Loader's row, a text with
    /// `<lora:…>` tags in any class that may act on them, or a model file's name in an input whose name holds "lora".
    /// Rows that are switched off count too. Each tag of a class that takes exact paths is an input of its own.
    pub fn lora_inputs(&self, table: &LoraInputTable) -> Vec<LoraInput> {
        let mut found = Vec::new();
        for (id, node) in &self.nodes {
            for (input, value) in node.inputs() {
                for (within, value) in classify(node.class_type(), input, value, table) {
                    let location = LoraLocation {
                        node_id: id.clone(),
                        input: input.clone(),
                        within,
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

    /// Answers this graph with other LoRA paths at the given places. Of a text with tags only the names change.
    ///
    /// # Errors
    /// A place that this graph does not have, because the location was found in another graph; a path that would end
    /// the tag it is written into.
    pub fn with_loras(&self, paths: &[(LoraLocation, String)]) -> Result<Self, Vec<Violation>> {
        let mut findings = Findings::default();
        let mut graph = self.clone();
        for (location, path) in paths {
            if let Err(detail) = graph.write_lora(location, path) {
                findings.add(|| location.pointer(), detail);
            }
        }
        findings.into_result(graph)
    }

    fn write_lora(&mut self, location: &LoraLocation, path: &str) -> Result<(), &'static str> {
        const NOT_HERE: &str = "is not an input of this graph";
        let node = self.nodes.get_mut(&location.node_id).ok_or(NOT_HERE)?;
        let syntax = tag_syntax(node.class_type(), &location.input);
        let value = node.inputs.get_mut(&location.input).ok_or(NOT_HERE)?;
        match location.within {
            Within::Whole => *value = Value::String(path.to_owned()),
            Within::Member(member) => {
                let members = value.as_object_mut().ok_or(NOT_HERE)?;
                *members.get_mut(member).ok_or(NOT_HERE)? = Value::String(path.to_owned());
            }
            Within::Tag(number) => {
                if !fits_tag(path) {
                    return Err(
                        "names a LoRA whose path cannot stand in a tag; use a LoRA loader node instead",
                    );
                }
                let (Value::String(text), Some(syntax)) = (value, syntax) else {
                    return Err(NOT_HERE);
                };
                // A name that fits adds and removes no tag, so that the numbers of the others stay right.
                let name = tag_names(text, syntax)
                    .and_then(|names| names.get(number).cloned())
                    .ok_or(NOT_HERE)?;
                text.replace_range(name, path);
            }
        }
        Ok(())
    }
}

type Found = (Within, LoraValue);

fn classify(class_type: &str, input: &str, value: &Value, table: &LoraInputTable) -> Vec<Found> {
    if !table.contains(class_type, input)
        && let Some(tags) = exact_tags(class_type, input, value)
    {
        return tags;
    }
    classify_one(class_type, input, value, table)
        .into_iter()
        .collect()
}

/// The tags of a text of a class that takes exact paths; `None` for any other value.
fn exact_tags(class_type: &str, input: &str, value: &Value) -> Option<Vec<Found>> {
    let syntax = tag_syntax(class_type, input)?;
    let text = value.as_str()?;
    let found = match tag_names(text, syntax) {
        Some(names) => names
            .into_iter()
            .enumerate()
            .map(|(number, name)| {
                let name = text.get(name).unwrap_or_default().to_owned();
                (Within::Tag(number), LoraValue::Name(name))
            })
            .collect(),
        None => vec![(Within::Whole, LoraValue::Tag(text.to_owned()))],
    };
    Some(found)
}

fn classify_one(
    class_type: &str,
    input: &str,
    value: &Value,
    table: &LoraInputTable,
) -> Option<Found> {
    let found = |value| Some((Within::Whole, value));
    let is_link = LinkShape::of(value).is_some();
    if table.contains(class_type, input) {
        return named(class_type, value).and_then(found);
    }
    let lower = last_part(input).to_ascii_lowercase();
    if class_type == POWER_LORA_LOADER && lower.starts_with("lora_") {
        return power_row(value);
    }
    if takes_tags(class_type, input) && may_become_link(value) {
        return found(LoraValue::Linked);
    }
    if lower == "loras" && (value.is_array() || value.is_object()) {
        return match value {
            _ if is_link => found(LoraValue::Linked),
            list if is_filled(list) => found(LoraValue::List),
            _ => None,
        };
    }
    let expands = expands_texts(class_type);
    let is_tagged = |text: &str| has_tag(text) || (expands && may_make_tag(text));
    if let Some(text) = text_within(value, &is_tagged)
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
            Some(Value::String(name)) => {
                Some((Within::Member(POWER_MEMBER), LoraValue::Name(name.clone())))
            }
            Some(Value::Null) => None,
            None if !members.contains_key(WRAPPER) => None,
            Some(_) | None => Some((Within::Whole, LoraValue::Malformed)),
        },
        _ if LinkShape::of(value).is_some() => Some((Within::Whole, LoraValue::Linked)),
        _ => Some((Within::Whole, LoraValue::Malformed)),
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

/// The first text within `value` that `is_wanted`. Its depth is bounded by the graph's.
fn text_within<'a>(value: &'a Value, is_wanted: &impl Fn(&str) -> bool) -> Option<&'a str> {
    match value {
        Value::String(text) => is_wanted(text).then_some(text),
        Value::Array(items) => items.iter().find_map(|item| text_within(item, is_wanted)),
        Value::Object(members) => members
            .values()
            .find_map(|member| text_within(member, is_wanted)),
        Value::Null | Value::Bool(_) | Value::Number(_) => None,
    }
}
