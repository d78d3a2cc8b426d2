use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::graph::PromptGraph;
use atelier_domain::ids::{RunId, WorkflowId};
use atelier_domain::ports::{Clock, IdGen, LoraRepo, RepoError, RunRepo, WorkflowRepo};
use atelier_domain::run::{NewRun, Run};
use atelier_domain::validation::{Violation, pointer_token};
use serde_json::{Map, Value};
use thiserror::Error;

use super::lora_references::LoraReferences;
use crate::catalogue::CatalogueCache;
use crate::opaque::opaque_debug;

/// Where the graph stands in what violations point into.
const GRAPH: &str = "/workflow_json";

/// Why a run was not put into the queue.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubmitRunError {
    /// There is no such workflow, or the actor does not see it.
    #[error("there is no such workflow")]
    WorkflowNotFound,
    /// Everything that keeps the graph from running; pointers
    /// `/input_params/{key}` for parameters that cannot be bound,
    /// `/workflow_json/{node}/inputs/{input}` for what the graph then holds.
    #[error("the workflow cannot run like this")]
    Invalid(Vec<Violation>),
    /// A repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
}

/// Turns a workflow and parameters into a graph that may run, and puts it into
/// the queue.
#[derive(Clone)]
pub struct SubmitRun {
    /// Where the workflow is read; it is never changed.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// Where the actor's LoRAs are looked up.
    pub loras: Arc<dyn LoraRepo>,
    /// The queue.
    pub runs: Arc<dyn RunRepo>,
    /// Which LoRAs ComfyUI offers by itself.
    pub catalogue: Arc<CatalogueCache>,
    /// Tells when.
    pub clock: Arc<dyn Clock>,
    /// Names the run.
    pub ids: Arc<dyn IdGen>,
}

opaque_debug!(SubmitRun);

/// A graph that may run.
struct Prepared {
    graph: PromptGraph,
    lora_ids: Vec<atelier_domain::ids::LoraId>,
}

impl SubmitRun {
    /// Puts a run of the workflow into the queue, for the actor.
    ///
    /// The workflow may be somebody else's public one; LoRAs are always the
    /// actor's. The graph is bound, its LoRA inputs are rewritten to exact
    /// paths and its outputs sent to the run's own folder; nothing that cannot
    /// be resolved to the actor's or the system's files gets into the queue.
    ///
    /// # Errors
    /// [`SubmitRunError::Invalid`] with everything that is wrong at once.
    #[tracing::instrument(
        skip_all,
        fields(user.id = %actor.user_id(), workflow.id = %workflow_id, run.id = tracing::field::Empty)
    )]
    pub async fn execute(
        &self,
        actor: &Actor,
        workflow_id: WorkflowId,
        input_params: Map<String, Value>,
    ) -> Result<Run, SubmitRunError> {
        let workflow = self
            .workflows
            .get(actor, workflow_id)
            .await?
            .ok_or(SubmitRunError::WorkflowNotFound)?;
        let graph = workflow.workflow_json.parse().map_err(in_graph)?;
        let id = RunId::new(self.ids.new_id());
        tracing::Span::current().record("run.id", tracing::field::display(id));
        let prepared = self.prepare(actor, id, &graph, &input_params).await?;
        let new = NewRun {
            id,
            workflow_id,
            input_params,
            nodes_total: u32::try_from(prepared.graph.nodes().len()).unwrap_or(u32::MAX),
            graph: prepared.graph.to_json(),
            lora_ids: prepared.lora_ids,
            created_at: self.clock.now(),
        };
        Ok(self.runs.enqueue(actor, new).await?)
    }

    async fn prepare(
        &self,
        actor: &Actor,
        run: RunId,
        stored: &PromptGraph,
        input_params: &Map<String, Value>,
    ) -> Result<Prepared, SubmitRunError> {
        let mut violations = Vec::new();
        let bound = bind(stored, input_params, &mut violations);
        let Some(bound) = bound else {
            return Err(SubmitRunError::Invalid(violations));
        };

        let references = LoraReferences {
            loras: self.loras.as_ref(),
            catalogue: &self.catalogue,
            actor,
        };
        let resolved = references.resolve(&bound).await?;
        violations.extend(
            resolved
                .violations
                .into_iter()
                .map(|fault| fault.under(GRAPH)),
        );
        // What is said of a LoRA already is not said twice.
        let owner = actor.user_id();
        let isolated = bound
            .with_loras(&resolved.paths)
            .and_then(|graph| graph.isolate_outputs(owner, run));
        for fault in bound
            .file_name_violations(owner)
            .into_iter()
            .chain(isolated.as_ref().err().into_iter().flatten().cloned())
        {
            let fault = fault.under(GRAPH);
            if !violations.iter().any(|known| is_within(known, &fault)) {
                violations.push(fault);
            }
        }
        match isolated {
            Ok(graph) if violations.is_empty() => Ok(Prepared {
                graph,
                lora_ids: resolved.ids,
            }),
            _ => Err(SubmitRunError::Invalid(violations)),
        }
    }
}

/// Whether `known` is about the same value as `fault`, or about a part of it.
fn is_within(known: &Violation, fault: &Violation) -> bool {
    known
        .pointer
        .strip_prefix(&fault.pointer)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Binds what can be bound, so that the rest of the graph is judged as well;
/// `None` where nothing can be said beyond the violations.
fn bind(
    stored: &PromptGraph,
    input_params: &Map<String, Value>,
    violations: &mut Vec<Violation>,
) -> Option<PromptGraph> {
    match stored.bind(input_params) {
        Ok(bound) => Some(bound),
        Err(faults) => {
            let good: Map<String, Value> = input_params
                .iter()
                .filter(|(key, _)| {
                    let pointer = format!("/input_params/{}", pointer_token(key));
                    faults.iter().all(|fault| fault.pointer != pointer)
                })
                .map(|(key, value)| (key.clone(), value.clone()))
                .collect();
            violations.extend(faults);
            stored.bind(&good).ok()
        }
    }
}

fn in_graph(violations: Vec<Violation>) -> SubmitRunError {
    SubmitRunError::Invalid(
        violations
            .into_iter()
            .map(|fault| fault.under(GRAPH))
            .collect(),
    )
}
