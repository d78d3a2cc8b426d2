//! The result cache: the previous prompt's results, whoever sent it (`reference/comfyui/PROTOCOL.md` section 8).

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::graph::{Link, Prompt};
use crate::instance::Instance;
use crate::nodes::{Produced, input_file};
use crate::picture::{Digest, digest};

/// Results by what they were made from. Node ids do not matter.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    results: HashMap<Digest, Produced>,
}

impl Cache {
    pub(crate) fn get(&self, signature: &Digest) -> Option<&Produced> {
        self.results.get(signature)
    }

    pub(crate) fn put(&mut self, signature: Digest, produced: Produced) {
        self.results.insert(signature, produced);
    }

    /// Drops every result that the prompt with these signatures has no use for.
    pub(crate) fn keep_only(&mut self, signatures: &HashMap<String, Digest>) {
        let used: HashSet<&Digest> = signatures.values().collect();
        self.results.retain(|signature, _| used.contains(signature));
    }
}

/// The signatures of the nodes that the outputs depend on.
pub(crate) fn signatures(
    instance: &Instance,
    prompt: &Prompt,
    outputs: &[String],
) -> HashMap<String, Digest> {
    let mut known = HashMap::new();
    for output in outputs {
        sign(instance, prompt, output, &mut known);
    }
    known
}

/// The signature of a node: its class, the values of its inputs, and the signatures of what is linked to it. A picture file counts with
/// its content, a model file with its name only.
fn sign(
    instance: &Instance,
    prompt: &Prompt,
    node_id: &str,
    known: &mut HashMap<String, Digest>,
) -> Digest {
    if let Some(signature) = known.get(node_id) {
        return *signature;
    }
    let class_type = prompt.class_type(node_id);
    let mut parts = vec![class_type.as_bytes().to_vec()];
    for (name, value) in prompt.inputs(node_id).into_iter().flatten() {
        parts.push(name.as_bytes().to_vec());
        parts.push(match Link::read(value) {
            Some(link) => {
                let mut part = sign(instance, prompt, link.node_id, known).to_vec();
                part.extend_from_slice(&link.slot.to_le_bytes());
                part
            }
            None => value.to_string().into_bytes(),
        });
        if class_type == "LoadImage"
            && let Value::String(name) = value
            && let Some(path) = input_file(instance, name)
        {
            parts.push(std::fs::read(path).unwrap_or_default());
        }
    }
    let signature = digest(parts.iter().map(Vec::as_slice));
    known.insert(node_id.to_owned(), signature);
    signature
}
