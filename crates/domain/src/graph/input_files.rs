//! Finds every input of a graph that names a file of ComfyUI's input folder, and rewrites it.
//!
//! That folder is everybody's, so a graph may name its owner's own files alone: they are uploaded to this server and
//! stand at paths made from their content ([`InputPath`]).

use std::collections::{BTreeSet, HashMap};

use serde_json::Value;

use super::file_names::{Folder, annotated, has_model_extension, is_loaded_file};
use super::findings::{Findings, input_pointer};
use super::link::LinkShape;
use super::lora_table::last_part;
use super::path_rules::{names_other_user, path_fault};
use super::{NodeId, PromptGraph};
use crate::ids::UserId;
use crate::input::{InputFilename, InputName, InputPath};
use crate::validation::Violation;

/// Core classes, and those of widely used packs, that name a file of the input folder. Others are known by what a
/// backend's `object_info` says of them, or by their names.
const CORE: [(&str, &str); 14] = [
    ("ImageReceiver", "image"),
    ("LatentReceiver", "latent"),
    ("Load3D", "model_file"),
    ("Load3DAnimation", "model_file"),
    ("LoadAudio", "audio"),
    ("LoadImage", "image"),
    ("LoadImage //Inspire", "image"),
    ("LoadImageMask", "image"),
    ("LoadLatent", "latent"),
    ("LoadVideo", "file"),
    ("VHS_LoadAudioUpload", "audio"),
    ("VHS_LoadVideo", "video"),
    ("VHS_LoadVideoFFmpeg", "video"),
    ("WebcamCapture", "image"),
];

/// Inputs of classes with "Load" in their names that only say how a file came to be.
const ABOUT_UPLOADS: [&str; 2] = ["upload", "webcam"];

const NOT_YOURS: &str = "names no file of yours; upload the picture with POST /inputs and name it here as you called it";

const LINKED: &str =
    "must be a literal: a file name that comes over a link cannot be checked before the run";

const NOT_A_NAME: &str = "must be a string that names a file of yours";

const OTHER_OUTPUT: &str = "names a file that a run wrote, outside of your own folder";

const ADDRESS: &str =
    "is an address; upload the picture with POST /inputs and name it here as you called it";

/// The inputs known to name a file of ComfyUI's input folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileInputTable {
    offered: HashMap<String, BTreeSet<String>>,
}

impl FileInputTable {
    /// The known classes alone, for when no backend's catalogue is known.
    pub fn core() -> Self {
        Self::default()
    }

    /// Adds an input that a backend says to name such a file.
    pub fn extend_with(&mut self, class_type: impl Into<String>, input: impl Into<String>) {
        self.offered
            .entry(class_type.into())
            .or_default()
            .insert(input.into());
    }

    /// Whether this input of this class names a file of the input folder.
    pub fn contains(&self, class_type: &str, input: &str) -> bool {
        self.lists(class_type, input) || is_likely(class_type, last_part(input))
    }

    /// Whether that is known, and not only likely.
    fn lists(&self, class_type: &str, input: &str) -> bool {
        CORE.contains(&(class_type, input))
            || self
                .offered
                .get(class_type)
                .is_some_and(|inputs| inputs.contains(input))
    }
}

impl<Class: Into<String>, Input: Into<String>> FromIterator<(Class, Input)> for FileInputTable {
    fn from_iter<Pairs: IntoIterator<Item = (Class, Input)>>(pairs: Pairs) -> Self {
        let mut table = Self::core();
        for (class_type, input) in pairs {
            table.extend_with(class_type, input);
        }
        table
    }
}

/// Where a graph names an input file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileLocation {
    node_id: NodeId,
    input: String,
}

impl FileLocation {
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
        input_pointer(self.node_id.as_str(), &self.input)
    }
}

/// What an input says about the file it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileValue {
    /// One of the owner's files, if there is one; to be resolved.
    Name(InputName),
    /// What an earlier run of the owner's wrote.
    OwnOutput,
    /// It may not be named; why, in the words of a violation.
    Refused(&'static str),
}

/// An input of a graph that names a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileInput {
    /// Where it stands, for [`PromptGraph::with_input_files`].
    pub location: FileLocation,
    /// The node's class.
    pub class_type: String,
    /// What is there now.
    pub value: FileValue,
}

impl FileInput {
    /// The violation of one whose file its owner does not have.
    pub fn not_found(&self) -> Violation {
        Violation::new(self.location.pointer(), NOT_YOURS)
    }
}

impl PromptGraph {
    /// Finds every input that names a file of the input folder, in the order of nodes and inputs; "no file" is left
    /// out.
    pub fn file_inputs(&self, table: &FileInputTable, owner: UserId) -> Vec<FileInput> {
        let mut found = Vec::new();
        for (id, node) in &self.nodes {
            for (input, value) in node.inputs() {
                let class_type = node.class_type();
                if !table.contains(class_type, input) {
                    continue;
                }
                let is_known = table.lists(class_type, input);
                if let Some(value) = classify(class_type, value, is_known, owner) {
                    found.push(FileInput {
                        location: FileLocation {
                            node_id: id.clone(),
                            input: input.clone(),
                        },
                        class_type: class_type.to_owned(),
                        value,
                    });
                }
            }
        }
        found
    }

    /// Answers this graph with these files at the given places.
    ///
    /// # Errors
    /// A place that this graph does not have, because the location was found in another graph.
    pub fn with_input_files(
        &self,
        paths: &[(FileLocation, InputPath)],
    ) -> Result<Self, Vec<Violation>> {
        let mut findings = Findings::default();
        let mut graph = self.clone();
        for (location, path) in paths {
            let value = graph
                .nodes
                .get_mut(&location.node_id)
                .and_then(|node| node.inputs.get_mut(&location.input));
            match value {
                Some(value) => *value = Value::String(path.to_string()),
                None => findings.add(|| location.pointer(), "is not an input of this graph"),
            }
        }
        findings.into_result(graph)
    }
}

/// Whether the names say so. A picture in Base64 is none of the folder's.
fn is_likely(class_type: &str, input: &str) -> bool {
    is_loaded_file(class_type, input)
        && !ABOUT_UPLOADS.contains(&input)
        && !class_type.ends_with("Base64")
}

/// `is_known` says that the input names a file; otherwise it is only likely to.
fn classify(class_type: &str, value: &Value, is_known: bool, owner: UserId) -> Option<FileValue> {
    match value {
        Value::String(text) if is_nothing(text) => None,
        // Loaders of models call their inputs so too.
        Value::String(text) if !is_known && has_model_extension(text) => None,
        Value::String(text) => Some(named(class_type, text, owner)),
        Value::Null => None,
        // What is only likely to name a file may as well take a picture, or be a switch.
        _ if LinkShape::of(value).is_some() => is_known.then_some(FileValue::Refused(LINKED)),
        Value::Bool(_) | Value::Number(_) => is_known.then_some(FileValue::Refused(NOT_A_NAME)),
        Value::Array(_) | Value::Object(_) => Some(FileValue::Refused(NOT_A_NAME)),
    }
}

fn named(class_type: &str, text: &str, owner: UserId) -> FileValue {
    if is_address(text) {
        return FileValue::Refused(ADDRESS);
    }
    if names_other_user(text, owner) {
        return FileValue::Refused("names another user's folder");
    }
    let (path, folder) = annotated(class_type, text);
    if let Some(fault) = path_fault(path) {
        return FileValue::Refused(fault);
    }
    let within = path.strip_prefix(&format!("user-{owner}/"));
    if folder == Folder::Written {
        // Below the own folder nothing is anybody else's.
        return match within {
            Some(_) => FileValue::OwnOutput,
            None => FileValue::Refused(OTHER_OUTPUT),
        };
    }
    let name = match (within, InputPath::parse(path)) {
        (Some(_), Some(path)) => Some(InputName::At(path)),
        (Some(file), None) => InputFilename::parse(file).ok().map(InputName::Latest),
        (None, _) => InputFilename::parse(path).ok().map(InputName::Latest),
    };
    name.map_or(FileValue::Refused(NOT_YOURS), FileValue::Name)
}

/// What loaders offer for "no file"; none of them finds one under an empty name.
fn is_nothing(text: &str) -> bool {
    text.is_empty() || text.trim_matches(['[', ']']).eq_ignore_ascii_case("none")
}

/// Whether some class might fetch this from elsewhere, or take its bytes from it.
fn is_address(text: &str) -> bool {
    let lower = text.trim_start().to_ascii_lowercase();
    lower.contains("://")
        || ["data:", "file:", "blob:"]
            .iter()
            .any(|start| lower.starts_with(start))
}
