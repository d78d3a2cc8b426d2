//! The prompt graph as those who embed the domain use it.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "what helpers of tests do not find is a failed test"
)]

mod conventions;
mod file_names;
mod input_files;
mod loras;
mod outputs;
mod parameters;
mod parse;
mod policy;
mod properties;
mod tags;

use atelier_domain::graph::PromptGraph;
use atelier_domain::ids::UserId;
use atelier_domain::validation::Violation;
use serde_json::Value;
use uuid::Uuid;

const SD15_LORA: &str = include_str!("../samples/sd15_lora.api.json");
const GRAPH_FORMAT: &str = include_str!("../samples/graph_format.json");
const MODEL_INPUTS: &str = include_str!("../samples/model_inputs.json");

const OWNER: UserId = UserId::new(Uuid::from_u128(0x1111_1111_2222_4333_8444_5555_5555_abcd));
const OTHER: UserId = UserId::new(Uuid::from_u128(0x9999_9999_2222_4333_8444_5555_5555_abcd));

fn graph(json: &Value) -> PromptGraph {
    PromptGraph::parse(&json.to_string()).unwrap()
}

fn pointers(violations: &[Violation]) -> Vec<&str> {
    violations
        .iter()
        .map(|violation| violation.pointer.as_str())
        .collect()
}

/// The value of an input, as JSON.
fn input(graph: &PromptGraph, node: &str, name: &str) -> Value {
    graph
        .node(node)
        .and_then(|node| node.inputs().get(name))
        .cloned()
        .unwrap_or(Value::Null)
}

/// The rows of a list in the recorded table of model inputs.
fn recorded(list: &str) -> Vec<Value> {
    let table: Value = serde_json::from_str(MODEL_INPUTS).unwrap_or_default();
    table[list].as_array().cloned().unwrap_or_default()
}
