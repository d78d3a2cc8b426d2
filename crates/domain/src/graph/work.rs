//! How much work a graph is, as far as it can be read off it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::{Node, PromptGraph};

/// The inputs by which loaders name a checkpoint or a diffusion model.
const CHECKPOINT_INPUTS: [&str; 2] = ["ckpt_name", "unet_name"];

/// A node that claims more steps is weighed as if it had these.
const MAX_STEPS: u64 = 10_000;

/// The work in a graph: each node counts once, and a sampler once more for each of its steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GraphWork {
    weights: BTreeMap<String, u32>,
    total: u64,
}

impl GraphWork {
    /// How many nodes there are.
    pub fn nodes(&self) -> u32 {
        u32::try_from(self.weights.len()).unwrap_or(u32::MAX)
    }

    /// How many of these nodes the graph has.
    pub fn count<'a>(&self, nodes: impl IntoIterator<Item = &'a str>) -> u32 {
        let known: BTreeSet<&str> = nodes
            .into_iter()
            .filter(|node| self.weights.contains_key(*node))
            .collect();
        u32::try_from(known.len()).unwrap_or(u32::MAX)
    }

    /// The share of the work that is done, from 0 to 1: that of the nodes `done`, and of `current` the steps that are
    /// done, `(node, done, all)`. Nodes that the graph does not have count nothing.
    pub fn share<'a>(
        &self,
        done: impl IntoIterator<Item = &'a str>,
        current: Option<(&str, u32, u32)>,
    ) -> f64 {
        if self.total == 0 {
            return 0.0;
        }
        let done: BTreeSet<&str> = done.into_iter().collect();
        let whole: u64 = done.iter().map(|node| self.weight(node)).sum();
        let part = current
            .filter(|(node, _, all)| *all > 0 && !done.contains(node))
            .map_or(0.0, |(node, steps, all)| {
                number(self.weight(node)) * f64::from(steps.min(all)) / f64::from(all)
            });
        ((number(whole) + part) / number(self.total)).clamp(0.0, 1.0)
    }

    fn weight(&self, node: &str) -> u64 {
        self.weights.get(node).copied().map_or(0, u64::from)
    }
}

/// Exact: a graph has at most some thousand nodes of some thousand steps.
fn number(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::from(u32::MAX), f64::from)
}

impl PromptGraph {
    /// How much work the graph is.
    pub fn work(&self) -> GraphWork {
        let weights: BTreeMap<String, u32> = self
            .nodes()
            .map(|(id, node)| (id.as_str().to_owned(), 1 + steps(node)))
            .collect();
        let total = weights.values().copied().map(u64::from).sum();
        GraphWork { weights, total }
    }

    /// The name of the first checkpoint, or diffusion model, that the graph loads.
    pub fn checkpoint(&self) -> Option<&str> {
        self.nodes().find_map(|(_, node)| {
            CHECKPOINT_INPUTS
                .iter()
                .find_map(|input| node.inputs().get(*input)?.as_str())
        })
    }
}

/// The steps of a sampler, between `start_at_step` and `end_at_step` where it has them; 0 of any other node.
fn steps(node: &Node) -> u32 {
    let literal = |input: &str| node.inputs().get(input).and_then(Value::as_u64);
    let Some(all) = literal("steps").map(|steps| steps.min(MAX_STEPS)) else {
        return 0;
    };
    let end = literal("end_at_step").unwrap_or(all).min(all);
    let start = literal("start_at_step").unwrap_or(0).min(end);
    u32::try_from(end - start).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn graph() -> PromptGraph {
        PromptGraph::parse(
            r#"{
                "4": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sd15.safetensors"}},
                "3": {"class_type": "KSampler", "inputs": {"steps": 7, "model": ["4", 0]}},
                "9": {"class_type": "SaveImage", "inputs": {"images": ["3", 0]}}
            }"#,
        )
        .expect("a good graph")
    }

    #[test]
    fn a_sampler_weighs_its_steps() {
        let work = graph().work();

        assert_eq!(work.nodes(), 3);
        assert!((work.share(["4"], None) - 0.1).abs() < 1e-9);
        assert!((work.share(["4"], Some(("3", 7, 14))) - 0.5).abs() < 1e-9);
        assert!((work.share(["3", "4", "9"], None) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn only_the_steps_that_are_made_count() {
        let graph = PromptGraph::parse(
            r#"{"1": {"class_type": "KSamplerAdvanced",
                      "inputs": {"steps": 20, "start_at_step": 10, "end_at_step": 10000}},
                "2": {"class_type": "PreviewImage", "inputs": {}}}"#,
        )
        .expect("a good graph");

        assert!((graph.work().share(["2"], None) - 1.0 / 12.0).abs() < 1e-9);
    }

    #[test]
    fn foreign_nodes_count_nothing() {
        let work = graph().work();

        assert!(work.share(["nobody", "4", "4"], Some(("nobody", 1, 2))) < 0.11);
        assert_eq!(work.count(["nobody", "4", "4"]), 1);
    }

    #[test]
    fn the_checkpoint_is_read_off_its_loader() {
        assert_eq!(graph().checkpoint(), Some("sd15.safetensors"));
    }

    proptest! {
        #[test]
        fn a_share_is_one(done in prop::collection::vec("[0-9]", 0..6), step in any::<u32>(), all in any::<u32>()) {
            let share = graph().work().share(done.iter().map(String::as_str), Some(("3", step, all)));
            prop_assert!((0.0..=1.0).contains(&share));
        }
    }
}
