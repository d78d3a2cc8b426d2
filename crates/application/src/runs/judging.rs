//! What keeps a graph from running, once it is known what it names.

use atelier_domain::graph::{NodePolicy, PromptGraph};
use atelier_domain::ids::{RunId, UserId};
use atelier_domain::validation::Violation;

use super::file_references::ResolvedFiles;
use super::lora_references::Resolved;

/// Where the graph stands in what violations point into.
pub(super) const GRAPH: &str = "/workflow_json";

/// A graph, and all that is known of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judging<'a> {
    pub(super) graph: &'a PromptGraph,
    pub(super) loras: &'a Resolved,
    pub(super) files: &'a ResolvedFiles,
    pub(super) policy: &'a NodePolicy,
    pub(super) owner: UserId,
    pub(super) run: RunId,
}

impl Judging<'_> {
    /// Puts the resolved LoRAs and files into the graph and its outputs into the
    /// run's own folder; `None` where that cannot be done. Adds what is wrong to
    /// `violations`, but for what is said already.
    pub(super) fn isolated(self, violations: &mut Vec<Violation>) -> Option<PromptGraph> {
        violations.extend(under_graph(&self.graph.policy_violations(self.policy)));
        violations.extend(under_graph(&self.loras.violations));
        violations.extend(under_graph(&self.files.violations));
        let isolated = self
            .graph
            .with_input_files(&self.files.paths)
            .and_then(|graph| graph.with_loras(&self.loras.paths))
            .and_then(|graph| graph.isolate_outputs(self.owner, self.run));
        let faults = self.graph.file_name_violations(self.owner);
        for fault in faults
            .into_iter()
            .chain(isolated.as_ref().err().into_iter().flatten().cloned())
        {
            let fault = fault.under(GRAPH);
            if !violations.iter().any(|known| is_within(known, &fault)) {
                violations.push(fault);
            }
        }
        isolated.ok()
    }
}

/// Whether `known` is about the same value as `fault`, or about a part of it.
fn is_within(known: &Violation, fault: &Violation) -> bool {
    known
        .pointer
        .strip_prefix(&fault.pointer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The same violations, of the graph in the workflow.
pub(super) fn under_graph(violations: &[Violation]) -> Vec<Violation> {
    let violations = violations.iter().cloned();
    violations.map(|fault| fault.under(GRAPH)).collect()
}
