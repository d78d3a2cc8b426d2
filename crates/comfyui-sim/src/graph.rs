//! A prompt in API format, and the links in it.

use serde_json::{Map, Value};

/// The nodes of a prompt that has passed validation.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prompt {
    /// `{node_id: {class_type, inputs, _meta?}}`, with coerced input values.
    pub(crate) nodes: Map<String, Value>,
    /// The node ids in the order of the request body.
    pub(crate) order: Vec<String>,
}

impl Prompt {
    /// The class name of a node, empty for a node that does not exist.
    pub(crate) fn class_type(&self, node_id: &str) -> &str {
        self.nodes
            .get(node_id)
            .and_then(|node| node.get("class_type"))
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// The value of one input.
    pub(crate) fn input(&self, node_id: &str, name: &str) -> Option<&Value> {
        self.inputs(node_id)?.get(name)
    }

    /// All inputs of a node.
    pub(crate) fn inputs(&self, node_id: &str) -> Option<&Map<String, Value>> {
        self.nodes.get(node_id)?.get("inputs")?.as_object()
    }

    /// The prompt as JSON.
    pub(crate) fn to_value(&self) -> Value {
        Value::Object(self.nodes.clone())
    }
}

/// An input that is connected to another node's output.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link<'value> {
    pub(crate) node_id: &'value str,
    pub(crate) slot: usize,
}

impl<'value> Link<'value> {
    /// `["4", 0]` is a link; every other value is a literal.
    pub(crate) fn read(value: &'value Value) -> Option<Self> {
        match value.as_array()?.as_slice() {
            [Value::String(node_id), Value::Number(slot)] => Some(Self {
                node_id,
                slot: slot
                    .as_u64()
                    .and_then(|slot| usize::try_from(slot).ok())
                    .unwrap_or(usize::MAX),
            }),
            _ => None,
        }
    }
}
