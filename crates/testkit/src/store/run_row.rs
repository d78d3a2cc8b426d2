use atelier_domain::actor::Actor;
use atelier_domain::graph::GraphJson;
use atelier_domain::ids::{ClaimToken, LoraId};
use atelier_domain::output::RunOutput;
use atelier_domain::ports::ReleaseReason;
use atelier_domain::run::{
    NewRun, Run, RunEvent, RunEventKind, RunFailure, RunFailureCode, RunProgress, RunStatus,
    RunTransition,
};
use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// A run as the store keeps it.
pub(super) struct RunRow {
    pub(super) run: Run,
    pub(super) graph: GraphJson,
    pub(super) nodes_total: u32,
    pub(super) lora_ids: Vec<LoraId>,
    pub(super) claim: Option<Claim>,
    pub(super) cancel_requested: bool,
    pub(super) earlier_backend: Option<String>,
    pub(super) events: Vec<RunEvent>,
}

/// Who has a run, and until when.
pub(super) struct Claim {
    pub(super) token: ClaimToken,
    pub(super) until: DateTime<Utc>,
}

impl RunRow {
    pub(super) fn new(actor: &Actor, new: NewRun) -> Self {
        let run = Run {
            id: new.id,
            workflow_id: Some(new.workflow_id),
            user_id: actor.user_id(),
            status: RunStatus::Pending,
            phase: None,
            queue_position: None,
            progress: fresh_progress(new.nodes_total),
            input_params: new.input_params,
            comfyui_prompt_id: None,
            backend: None,
            outputs: Vec::new(),
            error: None,
            attempt: 0,
            created_at: new.created_at,
            started_at: None,
            completed_at: None,
        };
        let mut row = Self {
            run,
            graph: new.graph,
            nodes_total: new.nodes_total,
            lora_ids: new.lora_ids,
            claim: None,
            cancel_requested: false,
            earlier_backend: None,
            events: Vec::new(),
        };
        row.enter(RunStatus::Pending, new.created_at);
        row
    }

    /// Begins an attempt.
    pub(super) fn begin(&mut self, claim: Claim, backend: String, at: DateTime<Utc>) {
        let running = self.after(RunTransition::Claim);
        self.claim = Some(claim);
        self.run.attempt += 1;
        self.run.backend = Some(backend);
        self.run.progress = fresh_progress(self.nodes_total);
        self.run.started_at.get_or_insert(at);
        self.enter(running, at);
    }

    /// Gives the run back after its worker or its backend.
    pub(super) fn release(&mut self, reason: ReleaseReason, at: DateTime<Utc>) -> RunStatus {
        let attempt = self.run.attempt;
        let transition = match reason {
            ReleaseReason::HandOver => RunTransition::HandOver,
            ReleaseReason::WorkerLost | ReleaseReason::BackendLost => {
                RunTransition::Release { attempt }
            }
        };
        let status = self.after(transition);
        let backend = self.run.backend.take();
        match reason {
            ReleaseReason::HandOver => {
                self.run.attempt -= 1;
                self.earlier_backend = backend;
            }
            ReleaseReason::WorkerLost => self.earlier_backend = backend,
            ReleaseReason::BackendLost => {
                self.earlier_backend = None;
                self.run.comfyui_prompt_id = None;
            }
        }
        if status == RunStatus::Failed {
            self.set_error(
                RunFailure::new(
                    RunFailureCode::AttemptsExhausted,
                    format!("the run was begun {attempt} times and lost its worker or its backend each time"),
                ),
                at,
            );
        }
        self.enter(status, at);
        status
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
                ..RunProgress::default()
            };
        }
        if let Some(failure) = failure {
            self.set_error(failure, at);
        }
        self.enter(status, at);
    }

    /// Writes an event.
    pub(super) fn record(&mut self, kind: RunEventKind, data: Value, at: DateTime<Utc>) {
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
}

pub(super) fn progress_data(progress: &RunProgress) -> Value {
    json!({
        "value": progress.value,
        "nodes_done": progress.nodes_done,
        "nodes_total": progress.nodes_total,
        "current_node": progress.current_node,
        "step": progress.step,
        "steps": progress.steps,
    })
}

fn fresh_progress(nodes_total: u32) -> RunProgress {
    RunProgress {
        nodes_total,
        ..RunProgress::default()
    }
}
