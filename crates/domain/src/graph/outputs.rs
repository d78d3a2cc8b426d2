//! Where a run's files go in ComfyUI's shared output folder.

use serde_json::Value;

use super::PromptGraph;
use super::findings::{Findings, input_pointer};
use super::lora_table::last_part;
use super::path_rules::{names_other_user, path_fault};
use crate::ids::{RunId, UserId};
use crate::validation::Violation;

/// The input by which nearly every class names its files in the output folder.
const FILENAME_PREFIX: &str = "filename_prefix";

/// Other inputs that name a place in the output folder. The first would otherwise write into `output/loras`, which
/// ComfyUI offers to everybody as LoRAs.
const OTHER_PREFIXES: [(&str, &str); 5] = [
    ("SaveLoRA", "prefix"),
    ("SaveLoRANode", "prefix"),
    ("SaveImageDataSetToFolder", "folder_name"),
    ("SaveImageTextDataSetToFolder", "folder_name"),
    ("SaveTrainingDataset", "folder_name"),
];

/// Classes that write files under [`FILENAME_PREFIX`]; they get one where the graph leaves it out.
const SAVING_CLASSES: [&str; 17] = [
    "CLIPSave",
    "CheckpointSave",
    "ImageOnlyCheckpointSave",
    "LoraSave",
    "ModelSave",
    "SaveAnimatedPNG",
    "SaveAnimatedWEBP",
    "SaveAudio",
    "SaveAudioMP3",
    "SaveAudioOpus",
    "SaveGLB",
    "SaveImage",
    "SaveLatent",
    "SaveSVGNode",
    "SaveVideo",
    "SaveWEBM",
    "VAESave",
];

/// Custom classes that save, and need a prefix of their own too.
const CUSTOM_SAVING_CLASSES: [&str; 1] = ["VHS_VideoCombine"];

/// What ComfyUI's own front end puts into a new node.
const DEFAULT_PREFIX: &str = "ComfyUI";

/// Bytes that one segment of a prefix may have: the server appends a counter and an extension, and a file system
/// takes 255.
const MAX_SEGMENT_BYTES: usize = 200;

/// Bytes that a prefix may have.
const MAX_PREFIX_BYTES: usize = 1_000;

/// Whether this input names a place in the output folder.
pub(super) fn is_output_path(class_type: &str, input: &str) -> bool {
    let input = last_part(input);
    input == FILENAME_PREFIX || OTHER_PREFIXES.contains(&(class_type, input))
}

impl PromptGraph {
    /// Answers this graph with every output below `user-{owner}/{run}/`, so that no run overwrites, reads or shares
    /// the cached output of another.
    ///
    /// A prefix keeps its own sub folders below that; classes that save and have no prefix get one.
    ///
    /// # Errors
    /// A prefix that is linked or no string, leads out of the folder, names another user's, or is too long.
    pub fn isolate_outputs(&self, owner: UserId, run: RunId) -> Result<Self, Vec<Violation>> {
        let mut findings = Findings::default();
        let mut graph = self.clone();
        for (id, node) in &mut graph.nodes {
            let class_type = node.class_type().to_owned();
            for (input, value) in &mut node.inputs {
                if !is_output_path(&class_type, input) {
                    continue;
                }
                match isolated(value, owner, run) {
                    Ok(prefix) => *value = Value::String(prefix),
                    Err(detail) => findings.add(|| input_pointer(id.as_str(), input), detail),
                }
            }
            let saves = SAVING_CLASSES.contains(&class_type.as_str())
                || CUSTOM_SAVING_CLASSES.contains(&class_type.as_str());
            if saves && !node.inputs.contains_key(FILENAME_PREFIX) {
                let prefix = format!("user-{owner}/{run}/{DEFAULT_PREFIX}");
                node.inputs
                    .insert(FILENAME_PREFIX.to_owned(), Value::String(prefix));
            }
        }
        findings.into_result(graph)
    }
}

fn isolated(value: &Value, owner: UserId, run: RunId) -> Result<String, &'static str> {
    let Value::String(prefix) = value else {
        return Err(
            "must be a literal string: a file name prefix that comes from elsewhere cannot be checked",
        );
    };
    if names_other_user(prefix, owner) {
        return Err("names another user's folder");
    }
    if let Some(fault) = path_fault(prefix) {
        return Err(fault);
    }
    if prefix.len() > MAX_PREFIX_BYTES
        || prefix
            .split('/')
            .any(|segment| segment.len() > MAX_SEGMENT_BYTES)
    {
        return Err("is too long: a folder or file name may have 200 bytes, the whole prefix 1000");
    }
    let kept = without_earlier_run(prefix, owner);
    let segments: Vec<&str> = kept
        .split('/')
        .filter(|segment| !segment.is_empty() && *segment != ".")
        .collect();
    let kept = if segments.is_empty() {
        DEFAULT_PREFIX.to_owned()
    } else {
        segments.join("/")
    };
    Ok(format!("user-{owner}/{run}/{kept}"))
}

/// Drops the folders of an earlier run: a graph taken out of a picture carries them.
fn without_earlier_run(prefix: &str, owner: UserId) -> &str {
    let own_folder = format!("user-{owner}/");
    let Some((run, rest)) = prefix
        .strip_prefix(&own_folder)
        .and_then(|rest| rest.split_once('/'))
    else {
        return prefix;
    };
    if run.parse::<RunId>().is_ok() {
        rest
    } else {
        prefix
    }
}
