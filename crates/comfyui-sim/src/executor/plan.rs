//! In which order nodes run: what can run, and of that what the person at the screen wants to see first.

use std::collections::HashMap;

use crate::graph::{Link, Prompt};
use crate::nodes::Catalogue;

/// The nodes that are still to run.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// In the order in which they were found.
    pending: Vec<String>,
    blocked_by: HashMap<String, usize>,
    blocking: HashMap<String, Vec<String>>,
}

impl Plan {
    /// Everything that these outputs need and that is not cached. Outputs are always part of it.
    pub(crate) fn new(
        prompt: &Prompt,
        catalogue: &Catalogue,
        outputs: &[String],
        is_cached: impl Fn(&str) -> bool,
    ) -> Self {
        let mut plan = Self::default();
        for output in outputs {
            plan.add(prompt, catalogue, output, &is_cached);
        }
        plan
    }

    fn add(
        &mut self,
        prompt: &Prompt,
        catalogue: &Catalogue,
        output: &str,
        is_cached: &impl Fn(&str) -> bool,
    ) {
        let mut found = vec![output.to_owned()];
        let mut links = Vec::new();
        while let Some(node_id) = found.pop() {
            if self.blocked_by.contains_key(&node_id) {
                continue;
            }
            self.pending.push(node_id.clone());
            self.blocked_by.insert(node_id.clone(), 0);
            let Some(class) = catalogue.get(prompt.class_type(&node_id)) else {
                continue;
            };
            for input in &class.definition.inputs {
                let Some(link) = prompt.input(&node_id, input.name).and_then(Link::read) else {
                    continue;
                };
                if !is_cached(link.node_id) {
                    found.push(link.node_id.to_owned());
                    links.push((link.node_id.to_owned(), node_id.clone()));
                }
            }
        }
        for (from, to) in links {
            let blocked = self.blocking.entry(from).or_default();
            if !blocked.contains(&to) {
                *self.blocked_by.entry(to.clone()).or_default() += 1;
                blocked.push(to);
            }
        }
    }

    /// The next node: an output if one can run, else what an output waits for, else what that waits for, else the first one found.
    pub(crate) fn next(&self, is_output: impl Fn(&str) -> bool) -> Option<String> {
        let ready: Vec<&String> = self
            .pending
            .iter()
            .filter(|node_id| self.blocked_by.get(*node_id).copied().unwrap_or(0) == 0)
            .collect();
        let blocked = |node_id: &str| {
            self.blocking
                .get(node_id)
                .map(Vec::as_slice)
                .unwrap_or_default()
        };
        let one_away = |node_id: &str| blocked(node_id).iter().any(|next| is_output(next));
        let two_away = |node_id: &str| blocked(node_id).iter().any(|next| one_away(next));
        ready
            .iter()
            .find(|node_id| is_output(node_id))
            .or_else(|| ready.iter().find(|node_id| one_away(node_id)))
            .or_else(|| ready.iter().find(|node_id| two_away(node_id)))
            .or_else(|| ready.first())
            .map(|node_id| (*node_id).clone())
    }

    /// A node has run: what waited for it may be able to run now.
    pub(crate) fn complete(&mut self, node_id: &str) {
        self.pending.retain(|pending| pending != node_id);
        for next in self.blocking.remove(node_id).unwrap_or_default() {
            if let Some(count) = self.blocked_by.get_mut(&next) {
                *count = count.saturating_sub(1);
            }
        }
    }
}
