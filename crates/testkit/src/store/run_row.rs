use std::collections::BTreeSet;

use atelier_domain::actor::Actor;
use atelier_domain::graph::GraphJson;
use atelier_domain::ids::{ClaimToken, InputId, LoraId};
use atelier_domain::output::RunOutput;
use atelier_domain::ports::{ReleaseReason, RunReport};
use atelier_domain::run::{
    NewRun, Run, RunBlueprint, RunEvent, RunEventKind, RunFailure, RunLoss, RunPhase, RunProgress,
    RunStatus, RunTransition,
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// A run as the store keeps it.
pub(super) struct RunRow {
    pub(super) run: Run,
    pub(super) graph: GraphJson,
    pub(super) nodes_total: u32,
    pub(super) lora_ids: Vec<LoraId>,
    pub(super) input_ids: Vec<InputId>,
    pub(super) trace_parent: Option<String>,
    pub(super) checkpoint: Option<String>,
    pub(super) claim: Option<Claim>,
    pub(super) cancel_requested: bool,
    /// The backend that may have it, from the moment that it is submitted.
    pub(super) lives_on: Option<String>,
    /// Backends that stayed away with it for too long.
    pub(super) abandoned_on: BTreeSet<String>,
    pub(super) waiting_since: DateTime<Utc>,
    pub(super) deferred_since: Option<DateTime<Utc>>,
    losses: [(RunLoss, u32); 3],
    pub(super) events: Vec<RunEvent>,
}

/// Who has a run, and until when.
pub(super) struct Claim {
    pub(super) token: ClaimToken,
    pub(super) until: DateTime<Utc>,
}

impl RunRow {
    pub(super) fn new(actor: &Actor, new: NewRun) -> Self {
        let created_at = new.created_at;
        let mut row = Self {
            run: new.pending(actor.user_id()),
            graph: new.graph,
            nodes_total: new.nodes_total,
            lora_ids: new.lora_ids,
            input_ids: new.input_ids,
            trace_parent: new.trace_parent,
            checkpoint: new.checkpoint,
            claim: None,
            cancel_requested: false,
            lives_on: None,
            abandoned_on: BTreeSet::new(),
            waiting_since: created_at,
            deferred_since: None,
            losses: RunLoss::ALL.map(|loss| (loss, 0)),
            events: Vec::new(),
        };
        row.enter(RunStatus::Pending, created_at);
        row
    }

    pub(super) fn blueprint(&self) -> RunBlueprint {
        RunBlueprint {
            status: self.run.status,
            workflow_id: self.run.workflow_id,
            input_params: self.run.input_params.clone(),
            graph: self.graph.clone(),
            nodes_total: self.nodes_total,
            lora_ids: self.lora_ids.clone(),
            input_ids: self.input_ids.clone(),
            checkpoint: self.checkpoint.clone(),
            priority: self.run.priority,
            timeout_s: self.run.timeout_s,
        }
    }

    pub(super) fn waits(&self) -> bool {
        self.run.status == RunStatus::Pending
    }

    pub(super) fn runs(&self) -> bool {
        self.run.status == RunStatus::Running
    }

    /// Whether it waits for that backend alone.
    pub(super) fn returns_to(&self, backend: &str) -> bool {
        self.run.status == RunStatus::Pending && self.lives_on.as_deref() == Some(backend)
    }

    /// Begins an attempt; says what the backend may call an earlier one.
    pub(super) fn begin(
        &mut self,
        claim: Claim,
        backend: String,
        at: DateTime<Utc>,
    ) -> Option<String> {
        let running = self.after(RunTransition::Claim);
        let resumes = self.lives_on.is_some().then(|| {
            let own_id = || self.run.id.to_string();
            self.run.comfyui_prompt_id.clone().unwrap_or_else(own_id)
        });
        let fresh = self.fresh_progress();
        self.run.progress = if resumes.is_some() {
            RunProgress {
                value: self.run.progress.value,
                nodes_done: self.run.progress.nodes_done,
                ..fresh
            }
        } else {
            fresh
        };
        self.claim = Some(claim);
        self.run.attempt += 1;
        self.run.backend = Some(backend);
        let own_id = self.run.id.to_string();
        self.run.comfyui_prompt_id.get_or_insert(own_id);
        self.run.started_at.get_or_insert(at);
        self.deferred_since = None;
        self.enter(running, at);
        resumes
    }

    /// Records how the run goes on.
    pub(super) fn report(&mut self, report: RunReport, at: DateTime<Utc>) {
        let submits = |phase: RunPhase| phase >= RunPhase::Submitting;
        if report.comfyui_prompt_id.is_some() || report.phase.is_some_and(submits) {
            self.lives_on.clone_from(&self.run.backend);
        }
        if let Some(prompt_id) = report.comfyui_prompt_id {
            self.run.comfyui_prompt_id = Some(prompt_id);
        }
        if let Some(phase) = report.phase
            && self.run.phase != Some(phase)
        {
            self.run.phase = Some(phase);
            self.record(RunEventKind::Phase, json!({"phase": phase.as_str()}), at);
        }
        if let Some(progress) = report.progress
            && self.run.progress != progress
        {
            self.record(RunEventKind::Progress, progress_data(&progress), at);
            self.run.progress = progress;
        }
    }

    /// Gives the run back after its worker or its backend.
    pub(super) fn release(&mut self, reason: ReleaseReason, at: DateTime<Utc>) -> RunStatus {
        let transition = self.releasing(reason);
        let status = self.after(transition);
        let backend = self.run.backend.take();
        if transition == RunTransition::HandOver {
            self.run.attempt -= 1;
        }
        self.waiting_since = at;
        if reason.may_live() {
            self.lives_on = backend;
            self.run.progress = RunProgress {
                value: self.run.progress.value,
                nodes_done: self.run.progress.nodes_done,
                nodes_total: self.run.progress.nodes_total,
                ..RunProgress::default()
            };
        } else {
            self.forget_backend();
        }
        if let RunTransition::Lose { loss, count } = transition
            && status == RunStatus::Failed
        {
            self.set_error(RunFailure::exhausted(loss, count), at);
        }
        self.enter(status, at);
        status
    }

    fn releasing(&mut self, reason: ReleaseReason) -> RunTransition {
        let was_submitted = self.lives_on.is_some();
        // Whoever hands a run over has said so; nobody asked the others.
        let is_told = matches!(reason, ReleaseReason::HandOver { .. });
        if self.cancel_requested && !(reason.may_live() && (is_told || was_submitted)) {
            return RunTransition::Cancel;
        }
        let lost = self
            .losses
            .iter_mut()
            .find(|(class, _)| Some(*class) == reason.loss());
        match lost {
            None => RunTransition::HandOver,
            Some((loss, count)) => {
                *count += 1;
                RunTransition::Lose {
                    loss: *loss,
                    count: *count,
                }
            }
        }
    }

    /// Makes a run that waits for one backend free for all, or ends it if its
    /// owner wants that.
    pub(super) fn free(&mut self, at: DateTime<Utc>) {
        self.abandoned_on.extend(self.lives_on.clone());
        self.forget_backend();
        if self.cancel_requested {
            self.end(RunTransition::Cancel, None, Vec::new(), at);
        }
    }

    /// A backend was found to have it.
    pub(super) fn adopt(&mut self, backend: &str, at: DateTime<Utc>) {
        if self.run.status == RunStatus::Pending && self.lives_on.is_none() {
            self.lives_on = Some(backend.to_owned());
            self.waiting_since = at;
        }
    }

    fn forget_backend(&mut self) {
        self.lives_on = None;
        self.run.comfyui_prompt_id = None;
        self.run.progress = self.fresh_progress();
    }

    /// Ends the run with what outputs there are.
    pub(super) fn end(
        &mut self,
        transition: RunTransition,
        failure: Option<RunFailure>,
        mut outputs: Vec<RunOutput>,
        at: DateTime<Utc>,
    ) {
        let status = self.after(transition);
        outputs.sort_by_key(|output| output.index);
        for output in &outputs {
            let data = json!({"index": output.index, "filename": output.filename});
            self.record(RunEventKind::Output, data, at);
        }
        self.run.outputs = outputs;
        if status == RunStatus::Completed {
            // Of a short run no progress is ever reported.
            let nodes_total = self.run.progress.nodes_total;
            self.run.progress = RunProgress {
                value: 1.0,
                nodes_done: nodes_total,
                nodes_total,
                current_node: None,
                step: None,
                steps: None,
                ..self.run.progress
            };
        }
        if let Some(failure) = failure {
            self.set_error(failure, at);
        }
        self.enter(status, at);
    }

    fn record(&mut self, kind: RunEventKind, data: Value, at: DateTime<Utc>) {
        let sequence = self.events.last().map_or(1, |last| last.sequence + 1);
        self.events.push(RunEvent {
            sequence,
            kind,
            data,
            created_at: at,
        });
    }

    fn after(&self, transition: RunTransition) -> RunStatus {
        self.run
            .status
            .after(transition)
            .expect("whoever calls has looked at the status")
    }

    fn set_error(&mut self, failure: RunFailure, at: DateTime<Utc>) {
        let data = json!({
            "code": failure.code.as_str(),
            "message": failure.message,
            "node_id": failure.node_id,
            "node_type": failure.node_type,
        });
        self.record(RunEventKind::Error, data, at);
        self.run.error = Some(failure);
    }

    fn enter(&mut self, status: RunStatus, at: DateTime<Utc>) {
        self.run.status = status;
        if status != RunStatus::Running {
            self.run.phase = None;
            self.claim = None;
        }
        if status.is_final() {
            self.run.completed_at = Some(at);
        }
        let data = json!({"status": status.as_str(), "attempt": self.run.attempt});
        self.record(RunEventKind::Status, data, at);
    }

    fn fresh_progress(&self) -> RunProgress {
        RunProgress {
            nodes_total: self.nodes_total,
            ..RunProgress::default()
        }
    }
}

fn progress_data(progress: &RunProgress) -> Value {
    json!({
        "value": progress.value,
        "nodes_done": progress.nodes_done,
        "nodes_total": progress.nodes_total,
        "current_node": progress.current_node,
        "step": progress.step,
        "steps": progress.steps,
        "lora_bytes_done": progress.lora_bytes_done,
        "lora_bytes_total": progress.lora_bytes_total,
    })
}
