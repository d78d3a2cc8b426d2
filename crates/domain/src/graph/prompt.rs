//! A graph in ComfyUI's API format.

use std::collections::{BTreeMap, HashSet};

use serde::Serialize;
use serde::ser::{SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::findings::{Findings, input_pointer, quoted, token};
use super::link::LinkShape;
use super::{GraphJson, NodeId, json};
use crate::validation::Violation;

/// Bytes of JSON text that a graph may have.
pub const MAX_GRAPH_BYTES: usize = 4 * 1024 * 1024;
/// Objects and arrays within each other that a graph may have, itself counted.
pub const MAX_GRAPH_DEPTH: usize = 64;
/// Nodes that a graph may have.
pub const MAX_GRAPH_NODES: usize = 2_000;
/// Characters that a node's name may have.
pub const MAX_NODE_ID_CHARS: usize = 100;
/// Characters that a node's class may have.
pub const MAX_CLASS_TYPE_CHARS: usize = 200;

const CLASS_TYPE: &str = "class_type";
const INPUTS: &str = "inputs";
const META: &str = "_meta";

/// One node: what it is, and what goes into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    class_type: String,
    pub(super) inputs: Map<String, Value>,
    meta: Option<Value>,
    others: Map<String, Value>,
}

impl Node {
    /// The class that ComfyUI runs, such as `KSampler`.
    pub fn class_type(&self) -> &str {
        &self.class_type
    }

    /// Inputs by name; each is a literal or a [`Link`](super::Link).
    pub fn inputs(&self) -> &Map<String, Value> {
        &self.inputs
    }

    /// What the editor keeps with the node and ComfyUI ignores, such as its title.
    pub fn meta(&self) -> Option<&Value> {
        self.meta.as_ref()
    }

    /// The node's title in the editor, if it has one.
    pub fn title(&self) -> Option<&str> {
        self.meta.as_ref()?.get("title")?.as_str()
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry(CLASS_TYPE, &self.class_type)?;
        map.serialize_entry(INPUTS, &self.inputs)?;
        if let Some(meta) = &self.meta {
            map.serialize_entry(META, meta)?;
        }
        for (name, value) in &self.others {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

/// A graph that ComfyUI can be asked to run: within our bounds, every link leads somewhere.
///
/// Whether the classes exist, and whether the values suit them, only a backend knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PromptGraph {
    pub(super) nodes: BTreeMap<NodeId, Node>,
}

impl PromptGraph {
    /// Reads and checks a graph in the API format
    /// (`{node_id: {class_type, inputs, _meta?}}`, `reference/comfyui/PROTOCOL.md` section 3).
    ///
    /// # Errors
    /// Everything that is wrong, at most 100 findings; pointers are relative to the graph. The graph (editor) format
    /// and a whole request body are recognised, and the detail says what to send instead.
    pub fn parse(json_text: &str) -> Result<Self, Vec<Violation>> {
        let mut findings = Findings::default();
        if json_text.len() > MAX_GRAPH_BYTES {
            let detail = format!(
                "is {} bytes long; a graph may have {MAX_GRAPH_BYTES} bytes at most",
                json_text.len()
            );
            findings.add(String::new, detail);
            return Err(findings.into_violations());
        }
        let Some(document) = json::read(json_text, MAX_GRAPH_DEPTH, &mut findings) else {
            return Err(findings.into_violations());
        };
        let nodes = match recognise(document) {
            Ok(members) => read_nodes(members, &mut findings),
            Err(detail) => {
                findings.add(String::new, detail);
                return Err(findings.into_violations());
            }
        };
        let graph = Self { nodes };
        if let Err(violations) = graph.declared_parameters() {
            findings.extend(violations);
        }
        findings.into_result(graph)
    }

    /// The nodes, in the order of their names.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = (&NodeId, &Node)> {
        self.nodes.iter()
    }

    /// Looks a node up by its name.
    pub fn node(&self, id: &str) -> Option<&Node> {
        self.nodes.get(&NodeId::new(id))
    }

    /// The graph as compact JSON text, the form in which it is stored and submitted.
    pub fn to_json(&self) -> GraphJson {
        #[expect(
            clippy::expect_used,
            reason = "a map of strings to JSON values always has a JSON text"
        )]
        let text = serde_json::to_string(self).expect("a graph is JSON");
        GraphJson::from_trusted(text)
    }
}

impl Serialize for PromptGraph {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.nodes.iter().map(|(id, node)| (id.as_str(), node)))
    }
}

/// Answers the nodes of an API-format document, or what the document is instead.
fn recognise(document: Value) -> Result<Map<String, Value>, String> {
    let Value::Object(members) = document else {
        return Err("must be an object of nodes: ComfyUI's API format".to_owned());
    };
    if members.get("nodes").is_some_and(Value::is_array) && members.contains_key("links") {
        return Err(
            "is in ComfyUI's graph format, which only its editor reads; export the workflow in the API format \
             (in ComfyUI's menu: Workflow > Export (API)) and send that file"
                .to_owned(),
        );
    }
    let wraps = |prompt: &Value| prompt.is_object() && prompt.get(CLASS_TYPE).is_none();
    if members.get("prompt").is_some_and(wraps) {
        return Err(
            "is a whole request body of ComfyUI; send only the object inside its member \"prompt\""
                .to_owned(),
        );
    }
    if members.is_empty() {
        return Err("has no nodes".to_owned());
    }
    if members.len() > MAX_GRAPH_NODES {
        return Err(format!(
            "has {} nodes; {MAX_GRAPH_NODES} are allowed at most",
            members.len()
        ));
    }
    Ok(members)
}

fn read_nodes(members: Map<String, Value>, findings: &mut Findings) -> BTreeMap<NodeId, Node> {
    // All names, broken nodes included: a link to a broken node is not one more mistake.
    let ids: HashSet<String> = members.keys().cloned().collect();
    let mut nodes = BTreeMap::new();
    for (id, value) in members {
        if id.is_empty() || exceeds(&id, MAX_NODE_ID_CHARS) {
            let detail = format!("has a node id of 0 or more than {MAX_NODE_ID_CHARS} characters");
            findings.add(|| format!("/{}", token(&id)), detail);
        }
        if let Some(node) = read_node(&id, value, findings) {
            check_links(&id, &node, &ids, findings);
            nodes.insert(NodeId::new(id), node);
        }
    }
    nodes
}

fn read_node(id: &str, value: Value, findings: &mut Findings) -> Option<Node> {
    let Value::Object(mut others) = value else {
        let detail = "must be a node: an object with class_type and inputs";
        findings.add(|| format!("/{}", token(id)), detail);
        return None;
    };
    let class_type = match others.remove(CLASS_TYPE) {
        Some(Value::String(class))
            if !class.is_empty() && !exceeds(&class, MAX_CLASS_TYPE_CHARS) =>
        {
            Some(class)
        }
        _ => {
            let detail =
                format!("must name the node's class in 1 to {MAX_CLASS_TYPE_CHARS} characters");
            findings.add(|| format!("/{}/{CLASS_TYPE}", token(id)), detail);
            None
        }
    };
    let inputs = if let Some(Value::Object(inputs)) = others.remove(INPUTS) {
        Some(inputs)
    } else {
        let detail = "must be an object of input names and values, empty if the node has none";
        findings.add(|| format!("/{}/{INPUTS}", token(id)), detail);
        None
    };
    Some(Node {
        class_type: class_type?,
        inputs: inputs?,
        meta: others.remove(META),
        others,
    })
}

fn check_links(id: &str, node: &Node, ids: &HashSet<String>, findings: &mut Findings) {
    for (input, value) in &node.inputs {
        let detail = match LinkShape::of(value) {
            Some(LinkShape::Link(link)) if ids.contains(link.node_id) => continue,
            Some(LinkShape::Link(link)) => {
                format!("links to node {}, which the graph does not have", quoted(link.node_id))
            }
            Some(LinkShape::BadSlot) => "links to an output that is not a whole number from 0 on".to_owned(),
            Some(LinkShape::NumberAsId) => {
                "is a link whose node id is a number; ComfyUI wants it as a string, such as [\"4\", 0]".to_owned()
            }
            None => continue,
        };
        findings.add(|| input_pointer(id, input), detail);
    }
}

fn exceeds(text: &str, max_chars: usize) -> bool {
    text.len() > max_chars && text.chars().nth(max_chars).is_some()
}
