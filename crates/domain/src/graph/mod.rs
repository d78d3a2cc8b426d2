//! The prompt graph: what a workflow holds and what a run submits.
//!
//! [`PromptGraph`] is a graph in ComfyUI's API format, checked once and then trusted. It is a value: binding
//! parameters ([`PromptGraph::bind`]), pointing LoRA inputs and file inputs at exact paths ([`PromptGraph::with_loras`],
//! [`PromptGraph::with_input_files`]) and moving outputs below a run's own folder ([`PromptGraph::isolate_outputs`])
//! return a new graph and leave the old one as it was. [`GraphJson`] is its text, for storing and answering without
//! parsing. Which classes of nodes a graph may use, a [`NodePolicy`] says.

mod file_names;
mod findings;
mod input_files;
mod json;
mod link;
mod lora_inputs;
mod lora_table;
mod lora_tags;
mod node_id;
mod node_policy;
mod outputs;
mod parameters;
mod path_rules;
mod prompt;
mod refused_classes;
mod stored;
mod work;

pub use file_names::has_model_extension;
pub use input_files::{FileInput, FileInputTable, FileLocation, FileValue};
pub use link::Link;
pub use lora_inputs::{LoraInput, LoraLocation, LoraValue};
pub use lora_table::LoraInputTable;
pub use node_id::NodeId;
pub use node_policy::{ClassPattern, ClassRefusal, InvalidClassPattern, NodePolicy};
pub use parameters::Address;
pub(crate) use path_rules::path_fault;
pub use prompt::{
    MAX_CLASS_TYPE_CHARS, MAX_GRAPH_BYTES, MAX_GRAPH_DEPTH, MAX_GRAPH_NODES, MAX_NODE_ID_CHARS,
    Node, PromptGraph,
};
pub use stored::GraphJson;
pub use work::GraphWork;
