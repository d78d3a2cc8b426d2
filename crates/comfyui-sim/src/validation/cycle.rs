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
        let mut on_way: HashSet<&str> = HashSet::from([output.as_str()]);
        while let Some((node_id, open)) = way.last_mut() {
            let Some(next) = open.pop() else {
                done.insert(node_id);
                on_way.remove(node_id);
                way.pop();
                continue;
            };
            if on_way.contains(next) {
                let circle = way
                    .iter()
                    .map(|(node_id, _)| *node_id)
                    .skip_while(|node_id| *node_id != next);
                return Some(Cycle {
                    nodes: circle.map(str::to_owned).collect(),
                    output: output.clone(),
                });
            }
            if !done.contains(next) {
                way.push((next, links(prompt, next)));
                on_way.insert(next);
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
