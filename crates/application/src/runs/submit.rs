use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::graph::PromptGraph;
use atelier_domain::ids::{RunId, UserId, WorkflowId};
use atelier_domain::ports::{Clock, IdGen, LoraRepo, RepoError, RunRepo, WorkflowRepo};
use atelier_domain::run::{NewRun, RunPriority};
use atelier_domain::validation::{Violation, pointer_token};
use serde_json::{Map, Value};
use thiserror::Error;

use super::enqueueing::{EnqueueError, OnceOnly, Submission, earlier_answer, enqueue};
use super::limits::RunLimits;
use super::lora_references::{LoraReferences, Resolved};
use crate::catalogue::CatalogueCache;
use crate::opaque::opaque_debug;

/// Where the graph stands in what violations point into.
pub(super) const GRAPH: &str = "/workflow_json";

/// How a workflow is to be run.
#[derive(Clone, Debug, Default)]
pub struct SubmitRequest<'a> {
    /// Values for the prompt's inputs.
    pub input_params: Map<String, Value>,
    /// Which of the actor's runs are begun first.
    pub priority: RunPriority,
    /// How long it may take once it is begun, in whole seconds; `None` for the
    /// default.
    pub timeout_s: Option<u32>,
    /// If the request is to be carried out once, however often it comes.
    pub once: Option<OnceOnly<'a>>,
}

/// Why a run was not put into the queue.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SubmitRunError {
    /// There is no such workflow, or the actor does not see it.
    #[error("there is no such workflow")]
    WorkflowNotFound,
    /// Everything that keeps the graph from running; pointers
    /// `/input_params/{key}` for parameters that cannot be bound,
    /// `/workflow_json/{node}/inputs/{input}` for what the graph then holds,
    /// `/timeout_s` for a run that would take too long.
    #[error("the workflow cannot run like this")]
    Invalid(Vec<Violation>),
    /// The queue did not take the run.
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
}

impl From<RepoError> for SubmitRunError {
    fn from(error: RepoError) -> Self {
        Self::Enqueue(error.into())
    }
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
    /// How much anybody may ask for.
    pub limits: RunLimits,
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
    /// A request that came before, under the same key, is answered as it was
    /// then, even if the workflow is gone since.
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
        request: SubmitRequest<'_>,
    ) -> Result<Submission, SubmitRunError> {
        let runs = self.runs.as_ref();
        if let Some(earlier) = earlier_answer(runs, actor, request.once.as_ref()).await? {
            return Ok(earlier);
        }
        let workflow = self
            .workflows
            .get(actor, workflow_id)
            .await?
            .ok_or(SubmitRunError::WorkflowNotFound)?;
        let graph = workflow.workflow_json.parse();
        let graph = graph.map_err(|faults| SubmitRunError::Invalid(under_graph(&faults)))?;
        let id = RunId::new(self.ids.new_id());
        tracing::Span::current().record("run.id", tracing::field::display(id));
        let (prepared, timeout_s) = self.prepare(actor, id, &graph, &request).await?;
        let new = NewRun {
            id,
            workflow_id: Some(workflow_id),
            input_params: request.input_params,
            nodes_total: u32::try_from(prepared.graph.nodes().len()).unwrap_or(u32::MAX),
            checkpoint: prepared.graph.checkpoint().map(str::to_owned),
            graph: prepared.graph.to_json(),
            lora_ids: prepared.lora_ids,
            priority: request.priority,
            timeout_s,
            retry_of: None,
            input_ids: Vec::new(),
            trace_parent: None,
            created_at: self.clock.now(),
        };
        Ok(enqueue(runs, actor, new, self.limits.max_pending, request.once).await?)
    }

    async fn prepare(
        &self,
        actor: &Actor,
        run: RunId,
        stored: &PromptGraph,
        request: &SubmitRequest<'_>,
    ) -> Result<(Prepared, u32), SubmitRunError> {
        let mut violations = Vec::new();
        let timeout_s = self.limits.timeout_s(request.timeout_s);
        violations.extend(timeout_s.as_ref().err().cloned());
        let bound = bind(stored, &request.input_params, &mut violations);
        let Some(bound) = bound else {
            return Err(SubmitRunError::Invalid(violations));
        };

        let references = LoraReferences {
            loras: self.loras.as_ref(),
            catalogue: &self.catalogue,
            actor,
        };
        let resolved = references.resolve(&bound).await?;
        violations.extend(under_graph(&resolved.violations));
        let isolated = faults_of(&bound, &resolved, actor.user_id(), run, &mut violations);
        match (isolated, timeout_s) {
            (Some(graph), Ok(timeout_s)) if violations.is_empty() => {
                let lora_ids = resolved.ids();
                Ok((Prepared { graph, lora_ids }, timeout_s))
            }
            _ => Err(SubmitRunError::Invalid(violations)),
        }
    }
}

/// Puts the resolved LoRAs into the graph and its outputs into the run's own
/// folder; `None` where that cannot be done. Adds what is wrong to `violations`,
/// but for what is said already.
pub(super) fn faults_of(
    graph: &PromptGraph,
    resolved: &Resolved,
    owner: UserId,
    run: RunId,
    violations: &mut Vec<Violation>,
) -> Option<PromptGraph> {
    let isolated = graph
        .with_loras(&resolved.paths)
        .and_then(|graph| graph.isolate_outputs(owner, run));
    let faults = graph.file_name_violations(owner);
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

/// The same violations, of the graph in the workflow.
pub(super) fn under_graph(violations: &[Violation]) -> Vec<Violation> {
    let violations = violations.iter().cloned();
    violations.map(|fault| fault.under(GRAPH)).collect()
}
