use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::graph::{NodePolicy, PromptGraph};
use atelier_domain::ids::{InputId, LoraId, RunId, WorkflowId};
use atelier_domain::ports::{Clock, IdGen, InputRepo, LoraRepo, RepoError, RunRepo, WorkflowRepo};
use atelier_domain::run::{NewRun, RunPriority};
use atelier_domain::validation::{Violation, pointer_token};
use serde_json::{Map, Value};
use thiserror::Error;

use super::enqueueing::{
    EnqueueError, OnceOnly, Submission, earlier_answer, enqueue, sound_trace_parent,
};
use super::file_references::FileReferences;
use super::judging::{Judging, under_graph};
use super::limits::RunLimits;
use super::lora_references::LoraReferences;
use crate::allowance::Allowance;
use crate::catalogue::CatalogueCache;
use crate::opaque::opaque_debug;

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
    /// The trace that the request belongs to, as a W3C `traceparent`.
    pub trace_parent: Option<String>,
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
    /// `/workflow_json/{node}/class_type` for nodes that may not be used,
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
    /// Where the actor's pictures are looked up.
    pub inputs: Arc<dyn InputRepo>,
    /// Which nodes may be used.
    pub policy: Arc<NodePolicy>,
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
    /// What one person may take up.
    pub allowance: Allowance,
}

opaque_debug!(SubmitRun);

/// A graph that may run.
struct Prepared {
    graph: PromptGraph,
    lora_ids: Vec<LoraId>,
    input_ids: Vec<InputId>,
}

impl SubmitRun {
    /// Puts a run of the workflow into the queue, for the actor.
    ///
    /// The workflow may be somebody else's public one; LoRAs are always the
    /// actor's, and so are pictures. The graph is bound, its LoRA and file inputs
    /// are rewritten to exact paths and its outputs sent to the run's own folder; nothing that cannot
    /// be resolved to the actor's or the system's files gets into the queue.
    ///
    /// A request that came before, under the same key, is answered as it was
    /// then, even if the workflow is gone since.
    ///
    /// # Errors
    /// [`SubmitRunError::Invalid`] with everything that is wrong at once.
    #[tracing::instrument(
        name = "runs.submit",
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
            input_ids: prepared.input_ids,
            priority: request.priority,
            timeout_s,
            retry_of: None,
            trace_parent: sound_trace_parent(request.trace_parent),
            created_at: self.clock.now(),
        };
        Ok(enqueue(
            runs,
            &self.allowance,
            actor,
            new,
            self.limits.max_pending,
            request.once,
        )
        .await?)
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
        let files = FileReferences {
            inputs: self.inputs.as_ref(),
            catalogue: &self.catalogue,
            actor,
        };
        let files = files.resolve(&bound).await?;
        let judging = Judging {
            graph: &bound,
            loras: &resolved,
            files: &files,
            policy: &self.policy,
            owner: actor.user_id(),
            run,
        };
        match (judging.isolated(&mut violations), timeout_s) {
            (Some(graph), Ok(timeout_s)) if violations.is_empty() => {
                let prepared = Prepared {
                    graph,
                    lora_ids: resolved.ids(),
                    input_ids: files.ids(),
                };
                Ok((prepared, timeout_s))
            }
            _ => Err(SubmitRunError::Invalid(violations)),
        }
    }
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
