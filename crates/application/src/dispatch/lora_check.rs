//! The last look at the LoRAs that a graph names.

use atelier_domain::graph::{LoraInput, LoraValue, PromptGraph};
use atelier_domain::ports::LoraCatalogue;

use crate::catalogue::lora_input_table;

/// Whether a node would take another file, perhaps somebody's, if the system's
/// that it names were gone by now (`reference/comfyui/PROTOCOL.md` section 9):
/// then what was known a minute ago is not enough.
pub(super) fn takes_another(graph: &PromptGraph, paths: &[String]) -> bool {
    graph
        .lora_inputs(&lora_input_table(None))
        .iter()
        .any(|input| {
            input.matches_loosely()
                && !matches!(&input.value, LoraValue::Name(name) if paths.contains(name))
        })
}

/// The first LoRA input that is neither this run's nor offered by the backend.
pub(super) fn unresolved(
    graph: &PromptGraph,
    paths: &[String],
    catalogue: Option<&LoraCatalogue>,
) -> Option<LoraInput> {
    graph
        .lora_inputs(&lora_input_table(catalogue))
        .into_iter()
        .find(|input| match &input.value {
            LoraValue::Name(name) => {
                let offered = catalogue.is_some_and(|catalogue| catalogue.files.contains(name));
                !offered && !paths.contains(name)
            }
            LoraValue::Linked | LoraValue::Malformed | LoraValue::Tag(_) | LoraValue::List => true,
        })
}
