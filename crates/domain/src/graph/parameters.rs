//! Binding a run's parameters to inputs of the graph (design contract, section 3 "Parameters").

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::findings::{Findings, input_pointer, quoted, token};
use super::json::NUL_DETAIL;
use super::link::{LinkShape, may_become_link};
use super::prompt::{MAX_GRAPH_BYTES, MAX_GRAPH_DEPTH, Node};
use super::{NodeId, PromptGraph};
use crate::validation::Violation;

/// Characters that the name of a declared parameter may have.
const MAX_PARAMETER_CHARS: usize = 100;

/// Parameters that one run may set: looking a name up walks over all nodes.
const MAX_BOUND: usize = 500;

/// Bytes that a key of `input_params` may have.
const MAX_KEY_BYTES: usize = 1_000;

/// Addresses listed at most for an ambiguous name.
const MAX_LISTED: usize = 10;

/// An input of a node, written `{node_id}.{input}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address {
    /// The node.
    pub node_id: NodeId,
    /// The input's name.
    pub input: String,
}

impl Address {
    /// The JSON pointer of the input, relative to the graph.
    pub fn pointer(&self) -> String {
        input_pointer(self.node_id.as_str(), &self.input)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.node_id, self.input)
    }
}

impl PromptGraph {
    /// The parameters that the workflow declares, by name.
    ///
    /// A node declares parameters for its own inputs in its `_meta`, which ComfyUI ignores:
    /// `"_meta": {"title": "…", "parameters": {"prompt": "text"}}` makes `prompt` a name for its input `text`.
    ///
    /// # Errors
    /// A declaration that is no object of strings, a name declared twice, an input that is missing or linked.
    /// [`PromptGraph::parse`] has checked this already.
    pub fn declared_parameters(&self) -> Result<BTreeMap<String, Address>, Vec<Violation>> {
        let mut findings = Findings::default();
        let mut declared: BTreeMap<String, Address> = BTreeMap::new();
        for (id, node) in &self.nodes {
            let Some(parameters) = node.meta().and_then(|meta| meta.get("parameters")) else {
                continue;
            };
            let place = format!("/{}/_meta/parameters", token(id.as_str()));
            let Value::Object(parameters) = parameters else {
                findings.add(
                    || place,
                    "must be an object of parameter names and names of the node's inputs",
                );
                continue;
            };
            for (name, input) in parameters {
                match declaration(node, name, input) {
                    Err(detail) => findings.add(|| format!("{place}/{}", token(name)), detail),
                    Ok(input) => {
                        let address = Address {
                            node_id: id.clone(),
                            input: input.to_owned(),
                        };
                        if let Some(first) = declared.get(name) {
                            let detail =
                                format!("is declared already, for {}", quoted(&first.to_string()));
                            findings.add(|| format!("{place}/{}", token(name)), detail);
                        } else {
                            declared.insert(name.clone(), address);
                        }
                    }
                }
            }
        }
        findings.into_result(declared)
    }

    /// Answers this graph with the values of `input_params` in place.
    ///
    /// A key is, in this order: a declared parameter; an address `{node_id}.{input}`; the bare name of an input,
    /// if exactly one node has a literal input of that name. A value keeps the JSON kind of the literal it replaces
    /// (a `null` may become anything), never replaces a link and never is one.
    ///
    /// # Errors
    /// Everything that is wrong, with pointers `/input_params/{key}`.
    pub fn bind(&self, input_params: &Map<String, Value>) -> Result<Self, Vec<Violation>> {
        let mut findings = Findings::default();
        if input_params.len() > MAX_BOUND {
            let detail = format!(
                "has {} members; {MAX_BOUND} are allowed at most",
                input_params.len()
            );
            findings.add(|| "/input_params".to_owned(), detail);
            return Err(findings.into_violations());
        }
        let declared = self.declared_parameters()?;
        let mut taken: BTreeMap<Address, &str> = BTreeMap::new();
        let mut bound = self.clone();
        for (key, value) in input_params {
            let outcome = self
                .resolve_key(key, &declared)
                .and_then(|address| self.check_value(&address, value).map(|()| address));
            let address = match outcome {
                Ok(address) => address,
                Err(detail) => {
                    findings.add(|| param_pointer(key), detail);
                    continue;
                }
            };
            if let Some(other) = taken.get(&address) {
                let detail = format!("sets the same input as {}: {address}", quoted(other));
                findings.add(|| param_pointer(key), detail);
                continue;
            }
            if let Some(node) = bound.nodes.get_mut(&address.node_id) {
                node.inputs.insert(address.input.clone(), value.clone());
            }
            taken.insert(address, key);
        }
        if findings.is_empty() && bound.to_json().as_str().len() > MAX_GRAPH_BYTES {
            let detail = format!("make the graph longer than {MAX_GRAPH_BYTES} bytes");
            findings.add(|| "/input_params".to_owned(), detail);
        }
        findings.into_result(bound)
    }

    fn resolve_key(
        &self,
        key: &str,
        declared: &BTreeMap<String, Address>,
    ) -> Result<Address, String> {
        if let Some(address) = declared.get(key) {
            return Ok(address.clone());
        }
        if key.len() > MAX_KEY_BYTES {
            return Err(format!("is a name of more than {MAX_KEY_BYTES} bytes"));
        }
        match self.resolve_address(key) {
            Some(found) => found,
            None => self.resolve_bare(key),
        }
    }

    /// Reads `key` as an address; node ids and input names may both hold dots, so every split is tried, last dot
    /// first. `None` where no split names a node.
    fn resolve_address(&self, key: &str) -> Option<Result<Address, String>> {
        let mut known_node = None;
        for (at, _) in key.rmatch_indices('.') {
            let (Some(node_id), Some(input)) = (key.get(..at), key.get(at + 1..)) else {
                continue;
            };
            let Some(node) = self.node(node_id) else {
                continue;
            };
            if node.inputs().contains_key(input) {
                return Some(Ok(Address {
                    node_id: NodeId::new(node_id),
                    input: input.to_owned(),
                }));
            }
            known_node.get_or_insert((node_id, input));
        }
        let (node_id, input) = known_node?;
        Some(Err(format!(
            "node {} has no input {}",
            quoted(node_id),
            quoted(input)
        )))
    }

    fn resolve_bare(&self, key: &str) -> Result<Address, String> {
        let mut linked = false;
        let mut found = Vec::new();
        for (id, node) in &self.nodes {
            match node.inputs().get(key) {
                Some(value) if LinkShape::of(value).is_some() => linked = true,
                Some(_) => found.push(Address {
                    node_id: id.clone(),
                    input: key.to_owned(),
                }),
                None => {}
            }
        }
        if found.len() > 1 {
            return Err(ambiguous(key, &found));
        }
        match found.pop() {
            Some(address) => Ok(address),
            None if linked => Err(format!(
                "is linked wherever a node has an input {}; values never replace links",
                quoted(key)
            )),
            None => Err(
                "names no declared parameter, no {node_id}.{input} and no input of this workflow"
                    .to_owned(),
            ),
        }
    }

    fn check_value(&self, address: &Address, value: &Value) -> Result<(), String> {
        let current = self
            .nodes
            .get(&address.node_id)
            .and_then(|node| node.inputs().get(&address.input))
            .unwrap_or(&Value::Null);
        if LinkShape::of(current).is_some() {
            return Err(format!(
                "names {address}, which is linked; values never replace links"
            ));
        }
        if may_become_link(value) {
            return Err("is a link to a node; a parameter must be a plain value".to_owned());
        }
        if !current.is_null() && kind(current) != kind(value) {
            return Err(format!(
                "is {}, but {address} holds {}",
                kind(value),
                kind(current)
            ));
        }
        check_bounds(value)
    }
}

fn declaration<'a>(node: &Node, name: &str, input: &'a Value) -> Result<&'a str, String> {
    if name.is_empty() || name.chars().count() > MAX_PARAMETER_CHARS {
        return Err(format!(
            "must have a name of 1 to {MAX_PARAMETER_CHARS} characters"
        ));
    }
    let Value::String(input) = input else {
        return Err("must be the name of an input of this node".to_owned());
    };
    match node.inputs().get(input) {
        None => Err(format!(
            "names the input {}, which the node does not have",
            quoted(input)
        )),
        Some(value) if LinkShape::of(value).is_some() => Err(format!(
            "names the input {}, which is linked; values never replace links",
            quoted(input)
        )),
        Some(_) => Ok(input),
    }
}

fn param_pointer(key: &str) -> String {
    format!("/input_params/{}", token(key))
}

fn ambiguous(key: &str, found: &[Address]) -> String {
    let listed: Vec<String> = found
        .iter()
        .take(MAX_LISTED)
        .map(|address| quoted(&address.to_string()))
        .collect();
    let more = if found.len() > MAX_LISTED {
        ", …"
    } else {
        ""
    };
    format!(
        "is ambiguous: {} nodes have an input {}; name one of {}{more}",
        found.len(),
        quoted(key),
        listed.join(", ")
    )
}

const fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// The bounds that [`PromptGraph::parse`] puts on values, checked without recursion.
fn check_bounds(value: &Value) -> Result<(), String> {
    // The graph, its node and the node's inputs are around the value.
    let mut open = vec![(value, 3_usize)];
    while let Some((value, around)) = open.pop() {
        let depth = around + 1;
        let is_container = value.is_array() || value.is_object();
        if is_container && depth > MAX_GRAPH_DEPTH {
            return Err(format!(
                "makes the graph more than {MAX_GRAPH_DEPTH} levels deep"
            ));
        }
        match value {
            Value::String(text) if text.contains('\0') => return Err(NUL_DETAIL.to_owned()),
            Value::Object(members) => {
                if members.keys().any(|name| name.contains('\0')) {
                    return Err(NUL_DETAIL.to_owned());
                }
                open.extend(members.values().map(|member| (member, depth)));
            }
            Value::Array(items) => open.extend(items.iter().map(|item| (item, depth))),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    Ok(())
}
