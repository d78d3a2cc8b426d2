//! What owners read when a run fails: our words, never a backend's, which hold
//! other people's file names and server paths
//! (`reference/comfyui/PROTOCOL.md` section 3).

use atelier_domain::graph::{FileInput, LoraInput, NodePolicy, PromptGraph};
use atelier_domain::input::Input;
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{LoraFolderError, NodeRejection, PromptRejection};
use atelier_domain::run::{RunFailure, RunFailureCode};

use crate::sync::{CopyError, LoraSyncError};

/// Nodes that a message names at most.
const MAX_NODES_TOLD: usize = 5;

/// Characters of a backend's word that are shown.
const MAX_WORD_CHARS: usize = 80;

/// Classes whose outputs ComfyUI lists; a prompt with one of them that ends
/// well and lists nothing is no success.
const LISTED_CLASSES: [&str; 17] = [
    "PreviewAny",
    "PreviewAudio",
    "PreviewImage",
    "SaveAnimatedPNG",
    "SaveAnimatedWEBP",
    "SaveAudio",
    "SaveAudioMP3",
    "SaveAudioOpus",
    "SaveGLB",
    "SaveImage",
    "SaveImageWebsocket",
    "SaveLatent",
    "SaveSVGNode",
    "SaveVideo",
    "SaveWEBM",
    "VHS_VideoCombine",
    "MaskPreview",
];

/// Whether a graph that ends well must leave something to store.
pub(super) fn promises_outputs(graph: &PromptGraph) -> bool {
    graph
        .nodes()
        .any(|(_, node)| LISTED_CLASSES.contains(&node.class_type()))
}

pub(super) fn no_outputs() -> RunFailure {
    RunFailure::new(
        RunFailureCode::NoOutputs,
        "ComfyUI ended the workflow well but made nothing that can be stored; use SaveImage or \
         another node that writes files (SaveImageWebsocket does not)",
    )
}

pub(super) fn unreadable_graph() -> RunFailure {
    RunFailure::new(
        RunFailureCode::PromptRejected,
        "the stored graph of this run breaks today's rules; run the workflow again",
    )
}

pub(super) fn interrupted() -> RunFailure {
    RunFailure::new(
        RunFailureCode::Interrupted,
        "somebody stopped the run on ComfyUI itself; run the workflow again",
    )
}

pub(super) fn lora_sync(error: &LoraSyncError) -> RunFailure {
    let gone = "the stored file of a LoRA that the run needs is gone; delete the LoRA, upload it again and run the workflow again";
    let operator = "whoever operates this server has to look at it";
    match error {
        LoraSyncError::Missing(_) => RunFailure::new(RunFailureCode::LoraMissing, gone),
        LoraSyncError::Copy { cause, path } => match cause.as_ref() {
            CopyError::ObjectGone => RunFailure::new(RunFailureCode::LoraMissing, gone),
            CopyError::WrongSize { .. } | CopyError::Folder(LoraFolderError::WrongBytes { .. }) => {
                RunFailure::new(
                    RunFailureCode::LoraSyncFailed,
                    format!(
                        "the stored file of the LoRA {} is damaged; delete the LoRA and upload it again",
                        path.file()
                    ),
                )
            }
            CopyError::NoRoom {
                needed_bytes,
                available_bytes,
                in_use_bytes,
            } => RunFailure::new(
                RunFailureCode::LoraSyncFailed,
                format!(
                    "the LoRA {} has {needed_bytes} bytes; the backend's LoRA folder has room for \
                     {available_bytes}, and {in_use_bytes} more are in use; {operator}",
                    path.file()
                ),
            ),
            CopyError::Folder(LoraFolderError::Full {
                needed_bytes,
                available_bytes,
            }) => RunFailure::new(
                RunFailureCode::LoraSyncFailed,
                format!(
                    "the LoRA {} has {needed_bytes} bytes; the backend's LoRA folder has room for \
                     {available_bytes}; {operator}",
                    path.file()
                ),
            ),
            CopyError::Folder(_) | CopyError::Blob(_) | CopyError::Repo(_) | CopyError::Stalled => {
                RunFailure::new(
                    RunFailureCode::LoraSyncFailed,
                    format!(
                        "the LoRA {} could not be put on the backend's disk; {operator}",
                        path.file()
                    ),
                )
            }
        },
        LoraSyncError::NeverFits {
            needed_bytes,
            capacity_bytes,
        } => RunFailure::new(
            RunFailureCode::LoraSyncFailed,
            format!(
                "the run's LoRAs have {needed_bytes} bytes together; the backend's LoRA folder can \
                 have {capacity_bytes}; use fewer or smaller ones, or {operator}"
            ),
        ),
        LoraSyncError::Folder(_) | LoraSyncError::Repo(_) => RunFailure::new(
            RunFailureCode::LoraSyncFailed,
            format!("the backend's LoRA folder cannot be used; {operator}"),
        ),
    }
}

/// What ends a run whose graph has a node that may no longer be used.
pub(super) fn refused_node(graph: &PromptGraph, policy: &NodePolicy) -> Option<RunFailure> {
    graph.nodes().find_map(|(id, node)| {
        let refusal = policy.refusal(node.class_type())?;
        let message = format!(
            "node {} is of the class {}, which may not be used here: {}",
            quoted(id.as_str()),
            quoted(node.class_type()),
            refusal.reason()
        );
        let failure = RunFailure::new(RunFailureCode::NodeRefused, message);
        Some(failure.at_node(
            Some(id.as_str().to_owned()),
            Some(node.class_type().to_owned()),
        ))
    })
}

pub(super) fn input_gone() -> RunFailure {
    RunFailure::new(
        RunFailureCode::InputMissing,
        "a picture that the run needs is gone; upload it again and run the workflow again",
    )
}

pub(super) fn input_not_placed(input: &Input) -> RunFailure {
    RunFailure::new(
        RunFailureCode::InputSyncFailed,
        format!(
            "the picture {} could not be put on the backend's disk; whoever operates this server \
             has to look at it",
            quoted(input.filename.as_str())
        ),
    )
}

pub(super) fn input_not_yours(file: &FileInput) -> RunFailure {
    RunFailure::new(
        RunFailureCode::InputMissing,
        format!(
            "the input {} of node {} names a file that is none of this run's; upload the picture \
             and run the workflow again",
            quoted(file.location.input()),
            quoted(file.location.node_id().as_str())
        ),
    )
    .at_node(
        Some(file.location.node_id().as_str().to_owned()),
        Some(file.class_type.clone()),
    )
}

pub(super) fn lora_not_offered(input: &LoraInput) -> RunFailure {
    RunFailure::new(
        RunFailureCode::LoraMissing,
        format!(
            "the input {} of node {} names a LoRA that is not yours and that this ComfyUI does \
             not offer",
            quoted(input.location.input()),
            quoted(input.node_id.as_str())
        ),
    )
    .at_node(
        Some(input.node_id.as_str().to_owned()),
        Some(input.class_type.clone()),
    )
}

pub(super) fn rejected(
    graph: &PromptGraph,
    paths: &[LoraPath],
    rejection: &PromptRejection,
) -> RunFailure {
    if !rejection.nodes.is_empty() {
        return rejected_nodes(graph, paths, &rejection.nodes);
    }
    let why = match rejection.kind.as_str() {
        "prompt_no_outputs" => "it has no node that makes an output; add SaveImage or another one",
        "missing_node_type" | "invalid_prompt" => {
            "it uses a node class that this ComfyUI does not have; install its custom nodes there"
        }
        _ => "check the workflow in ComfyUI's own editor",
    };
    RunFailure::new(
        RunFailureCode::PromptRejected,
        format!("ComfyUI refused the graph: {why}"),
    )
}

pub(super) fn rejected_nodes(
    graph: &PromptGraph,
    paths: &[LoraPath],
    nodes: &[NodeRejection],
) -> RunFailure {
    let mut faults: Vec<String> = nodes
        .iter()
        .take(MAX_NODES_TOLD)
        .map(|node| node_fault(graph, paths, node))
        .collect();
    if nodes.len() > MAX_NODES_TOLD {
        faults.push(format!("and {} more", nodes.len() - MAX_NODES_TOLD));
    }
    let failure = RunFailure::new(
        RunFailureCode::PromptRejected,
        format!("ComfyUI refused the graph: {}", faults.join("; ")),
    );
    match nodes.first() {
        Some(node) => failure.at_node(
            Some(shown(&node.node_id)),
            class_of(graph, Some(&node.node_id), Some(&node.class_type)),
        ),
        None => failure,
    }
}

fn node_fault(graph: &PromptGraph, paths: &[LoraPath], node: &NodeRejection) -> String {
    let class = class_of(graph, Some(&node.node_id), Some(&node.class_type)).unwrap_or_default();
    let place = format!("node {} ({class})", quoted(&node.node_id));
    let Some(input) = node.input_name.as_deref() else {
        return format!("{place}: {}", kind_words(&node.kind));
    };
    let is_ours = graph
        .node(&node.node_id)
        .and_then(|node| node.inputs().get(input)?.as_str())
        .is_some_and(|value| paths.iter().any(|path| path.to_string() == value));
    let why = if is_ours && node.kind == "value_not_in_list" {
        "ComfyUI does not see the LoRA that was put into its folder; whoever operates this server \
         has to check that it is the folder of this ComfyUI"
    } else {
        kind_words(&node.kind)
    };
    format!("{place}, input {}: {why}", quoted(input))
}

fn kind_words(kind: &str) -> &'static str {
    match kind {
        "required_input_missing" => "a value is missing",
        "bad_linked_input" | "exception_during_validation" => "its link leads nowhere",
        "return_type_mismatch" => "what is linked to it is of another type",
        "value_smaller_than_min" => "the value is too small",
        "value_bigger_than_max" => "the value is too large",
        "invalid_input_type" => "the value is of another type",
        "value_not_in_list" => {
            "this ComfyUI does not offer the value, such as a model it does not have"
        }
        "custom_validation_failed" => {
            "the node does not accept the value, such as a file that is not there"
        }
        "dependency_cycle" => "the nodes are linked in a circle",
        "missing_node_type" | "invalid_prompt" => "this ComfyUI does not have the node's class",
        _ => "the node is not valid",
    }
}

pub(super) fn execution(
    graph: Option<&PromptGraph>,
    node_id: Option<&str>,
    node_type: Option<&str>,
    exception_type: Option<&str>,
) -> RunFailure {
    let class = match graph {
        Some(graph) => class_of(graph, node_id, node_type),
        None => node_type.map(shown),
    };
    let place = match (node_id, &class) {
        (Some(node), Some(class)) => format!("node {} ({class}) failed", quoted(node)),
        (Some(node), None) => format!("node {} failed", quoted(node)),
        (None, _) => "ComfyUI failed while it worked on the workflow".to_owned(),
    };
    let exception = exception_type.map(last_word).unwrap_or_default();
    let advice = match exception.as_str() {
        "OutOfMemoryError" | "MemoryError" | "OOM_EXCEPTION" => {
            "the backend ran out of memory; make the picture or the batch smaller".to_owned()
        }
        "FileNotFoundError" => {
            "a file that it needs is not on the backend; check the models and pictures it names"
                .to_owned()
        }
        "SafetensorError" | "UnpicklingError" => {
            "a model file that it loads is damaged; upload it again".to_owned()
        }
        "" => "run the workflow again, or check it in ComfyUI's own editor".to_owned(),
        other => format!("with {other}; check its inputs in ComfyUI's own editor"),
    };
    let joint = if advice.starts_with("with ") {
        " "
    } else {
        ": "
    };
    RunFailure::new(
        RunFailureCode::ExecutionFailed,
        format!("{place}{joint}{advice}"),
    )
    .at_node(node_id.map(shown), class)
}

/// The class by our own graph; by the backend where it made the node itself.
fn class_of(graph: &PromptGraph, node_id: Option<&str>, told: Option<&str>) -> Option<String> {
    node_id
        .and_then(|id| graph.node(id))
        .map(|node| shown(node.class_type()))
        .or_else(|| told.filter(|told| !told.is_empty()).map(shown))
}

/// `torch.OutOfMemoryError` is an `OutOfMemoryError`; what is no Python name is
/// left out.
fn last_word(exception_type: &str) -> String {
    exception_type
        .rsplit('.')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|character| character.is_ascii_alphanumeric() || *character == '_')
        .take(MAX_WORD_CHARS)
        .collect()
}

fn shown(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .take(MAX_WORD_CHARS)
        .collect()
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", shown(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph() -> PromptGraph {
        PromptGraph::parse(r#"{"3": {"class_type": "KSampler", "inputs": {}}}"#).unwrap()
    }

    #[test]
    fn running_out_of_memory_says_what_to_do() {
        let failure = execution(
            Some(&graph()),
            Some("3"),
            None,
            Some("torch.cuda.OutOfMemoryError"),
        );

        assert_eq!(failure.code, RunFailureCode::ExecutionFailed);
        assert_eq!(failure.node_type.as_deref(), Some("KSampler"));
        assert!(
            failure.message.contains("out of memory"),
            "{}",
            failure.message
        );
    }

    #[test]
    fn an_exception_type_cannot_smuggle_a_path() {
        let failure = execution(None, None, None, Some("x.Error: /home/other/secret"));

        assert!(!failure.message.contains('/'), "{}", failure.message);
    }

    #[test]
    fn only_a_few_faults_are_told() {
        let node = NodeRejection {
            node_id: "3".into(),
            class_type: "KSampler".into(),
            kind: "value_bigger_than_max".into(),
            input_name: Some("steps".into()),
        };

        let failure = rejected_nodes(&graph(), &[], &vec![node; 40]);

        assert!(failure.message.contains("too large"), "{}", failure.message);
        assert!(
            failure.message.ends_with("and 35 more"),
            "{}",
            failure.message
        );
    }
}
