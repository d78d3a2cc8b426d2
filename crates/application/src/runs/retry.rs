use std::collections::BTreeSet;
use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::graph::{NodePolicy, PromptGraph};
use atelier_domain::ids::{InputId, LoraId, RunId};
use atelier_domain::lora::{LoraPath, LoraStatus};
use atelier_domain::ports::{Clock, IdGen, InputRepo, LoraRepo, RepoError, RunRepo};
use atelier_domain::run::{NewRun, RunBlueprint, RunPriority, RunStatus};
use atelier_domain::validation::Violation;
use thiserror::Error;

use super::enqueueing::{
    EnqueueError, OnceOnly, Submission, earlier_answer, enqueue, sound_trace_parent,
};
use super::file_references::FileReferences;
use super::judging::{GRAPH, under_graph};
use super::limits::RunLimits;
use crate::allowance::Allowance;
use crate::catalogue::{CatalogueCache, lora_input_table};
use crate::opaque::opaque_debug;

/// How a run is to be repeated.
#[derive(Clone, Debug, Default)]
pub struct RetryRequest<'a> {
    /// Which of the actor's runs are begun first; `None` for the earlier run's
    /// priority.
    pub priority: Option<RunPriority>,
    /// How long it may take once it is begun, in whole seconds; `None` for as
    /// long as the earlier run.
    pub timeout_s: Option<u32>,
    /// The trace that the request belongs to, as a W3C `traceparent`.
    pub trace_parent: Option<String>,
    /// If the request is to be carried out once, however often it comes.
    pub once: Option<OnceOnly<'a>>,
}

/// Why a run was not repeated.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RetryRunError {
    /// There is no such run, or it is not the actor's.
    #[error("there is no such run")]
    NotFound,
    /// The run is not over.
    #[error("the run is {}", .0.as_str())]
    NotFinished(RunStatus),
    /// Everything that keeps the run from being repeated; pointers
    /// `/workflow_json/{node}/inputs/{input}` for LoRAs and pictures that are
    /// gone, empty where no input names them, `/workflow_json/{node}/class_type`
    /// for nodes that may no longer be used, `/timeout_s` for a run that would
    /// take too long.
    #[error("the run cannot be repeated")]
    Invalid(Vec<Violation>),
    /// The queue did not take the run.
    #[error(transparent)]
    Enqueue(#[from] EnqueueError),
}

impl From<RepoError> for RetryRunError {
    fn from(error: RepoError) -> Self {
        Self::Enqueue(error.into())
    }
}

/// Puts into the queue again what an earlier run did: the same graph with the
/// same values, on the very same LoRAs and pictures.
#[derive(Clone)]
pub struct RetryRun {
    /// Where the earlier run is read, and the queue.
    pub runs: Arc<dyn RunRepo>,
    /// Where the run's LoRAs are looked up.
    pub loras: Arc<dyn LoraRepo>,
    /// Where the run's pictures are looked up.
    pub inputs: Arc<dyn InputRepo>,
    /// Which nodes may be used.
    pub policy: Arc<NodePolicy>,
    /// Which inputs take LoRAs.
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

opaque_debug!(RetryRun);

impl RetryRun {
    /// Puts a run that does what `earlier` did into the queue, linked to it.
    ///
    /// The workflow is not looked at: it may have been changed or deleted
    /// since. The outputs go to the new run's own folder.
    ///
    /// # Errors
    /// [`RetryRunError::Invalid`] with everything that is wrong at once.
    #[tracing::instrument(
        name = "runs.retry",
        skip_all,
        fields(user.id = %actor.user_id(), run.retry_of = %earlier, run.id = tracing::field::Empty)
    )]
    pub async fn execute(
        &self,
        actor: &Actor,
        earlier: RunId,
        request: RetryRequest<'_>,
    ) -> Result<Submission, RetryRunError> {
        let runs = self.runs.as_ref();
        if let Some(earlier) = earlier_answer(runs, actor, request.once.as_ref()).await? {
            return Ok(earlier);
        }
        let blueprint = runs
            .blueprint(actor, earlier)
            .await?
            .ok_or(RetryRunError::NotFound)?;
        if !blueprint.status.is_final() {
            return Err(RetryRunError::NotFinished(blueprint.status));
        }
        let id = RunId::new(self.ids.new_id());
        tracing::Span::current().record("run.id", tracing::field::display(id));
        let (graph, input_ids, timeout_s) = self.prepare(actor, id, &blueprint, &request).await?;
        let new = NewRun {
            id,
            workflow_id: blueprint.workflow_id,
            input_params: blueprint.input_params,
            graph: graph.to_json(),
            nodes_total: blueprint.nodes_total,
            lora_ids: blueprint.lora_ids,
            input_ids,
            checkpoint: blueprint.checkpoint,
            priority: request.priority.unwrap_or(blueprint.priority),
            timeout_s,
            retry_of: Some(earlier),
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
        id: RunId,
        blueprint: &RunBlueprint,
        request: &RetryRequest<'_>,
    ) -> Result<(PromptGraph, Vec<InputId>, u32), RetryRunError> {
        let invalid = |violations: Vec<Violation>| RetryRunError::Invalid(under_graph(&violations));
        let graph = blueprint.graph.parse().map_err(invalid)?;
        let mut violations = under_graph(&graph.policy_violations(&self.policy));
        let missing = self.missing_loras(actor, &graph, &blueprint.lora_ids);
        violations.extend(missing.await?);
        let files = FileReferences {
            inputs: self.inputs.as_ref(),
            catalogue: &self.catalogue,
            actor,
        };
        let files = files.resolve(&graph).await?;
        violations.extend(under_graph(&files.violations));
        let timeout_s = self
            .limits
            .timeout_again_s(request.timeout_s, blueprint.timeout_s);
        violations.extend(timeout_s.as_ref().err().cloned());
        let moved = graph
            .with_input_files(&files.paths)
            .and_then(|graph| graph.isolate_outputs(actor.user_id(), id))
            .map_err(invalid)?;
        match timeout_s {
            Ok(timeout_s) if violations.is_empty() => Ok((moved, files.ids(), timeout_s)),
            _ => Err(RetryRunError::Invalid(violations)),
        }
    }

    /// A violation for each input whose LoRA is not what it was.
    async fn missing_loras(
        &self,
        actor: &Actor,
        graph: &PromptGraph,
        ids: &[LoraId],
    ) -> Result<Vec<Violation>, RepoError> {
        let mut ready = BTreeSet::new();
        let mut all_there = true;
        for id in ids {
            let lora = self.loras.get(actor, *id).await?;
            let content = lora
                .filter(|lora| lora.status == LoraStatus::Ready)
                .and_then(|lora| lora.content);
            all_there &= content.is_some();
            ready.extend(content.map(|content| content.comfyui_path.to_string()));
        }
        if all_there {
            return Ok(Vec::new());
        }
        let known = self.catalogue.known();
        let missing: Vec<Violation> = graph
            .lora_inputs(&lora_input_table(known.as_deref()))
            .into_iter()
            .filter_map(|input| {
                let path = LoraPath::parse(input.value.name().ok()?).ok()?;
                let gone = format!(
                    "names your LoRA {:?}, which is gone; run the workflow anew with another one",
                    path.file()
                );
                (!ready.contains(&path.to_string()))
                    .then(|| Violation::new(input.pointer, gone).under(GRAPH))
            })
            .collect();
        if missing.is_empty() {
            return Ok(vec![Violation::new(
                "",
                "repeats a run that needs a LoRA which is gone; run the workflow anew",
            )]);
        }
        Ok(missing)
    }
}
