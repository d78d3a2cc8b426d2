//! Prompts whose links run in a circle.

use std::collections::HashSet;

use serde_json::Value;

use crate::graph::{Link, Prompt};

/// A circle of links.
#[derive(Debug)]
pub(crate) struct Cycle {
    /// Each node once, in the order of the links, beginning with the node that was reached first.
    pub(crate) nodes: Vec<String>,
    /// The output that depends on it.
    pub(crate) output: String,
}

/// The first circle that an output depends on. Walks without recursion: the prompt may be as long as the body limit allows.
pub(crate) fn find(prompt: &Prompt, outputs: &[String]) -> Option<Cycle> {
    let mut done: HashSet<&str> = HashSet::new();
    for output in outputs {
        // The way from the output to where the walk is, with the links that are still to be followed at each node.
        let mut way: Vec<(&str, Vec<&str>)> = vec![(output, links(prompt, output))];
        while let Some((node_id, open)) = way.last_mut() {
            let Some(next) = open.pop() else {
                done.insert(node_id);
                way.pop();
                continue;
            };
            if let Some(start) = way.iter().position(|(node_id, _)| *node_id == next) {
                let nodes = way
                    .iter()
                    .skip(start)
                    .map(|(node_id, _)| (*node_id).to_owned())
                    .collect();
                return Some(Cycle {
                    nodes,
                    output: output.clone(),
                });
            }
            if !done.contains(next) {
                way.push((next, links(prompt, next)));
            }
        }
    }
    None
}

fn links<'prompt>(prompt: &'prompt Prompt, node_id: &str) -> Vec<&'prompt str> {
    let values = prompt
        .inputs(node_id)
        .into_iter()
        .flat_map(serde_json::Map::values);
    values
        .filter_map(|value: &Value| Link::read(value).map(|link| link.node_id))
        .collect()
}
