use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::ids::{ClaimToken, RunId};
use atelier_domain::output::RunOutput;
use atelier_domain::ports::{
    ClaimRequest, ClaimedRun, Heartbeat, QueueError, ReleaseReason, RunQueue, RunReport, RunTopic,
};
use atelier_domain::run::{RunEventKind, RunFailure, RunStatus, RunTransition};
use serde_json::json;

use super::FakeStore;
use super::run_row::{Claim, RunRow, progress_data};

/// The runs of a [`FakeStore`], for workers.
#[derive(Clone, Debug)]
pub struct FakeRunQueue(pub(super) FakeStore);

impl FakeRunQueue {
    /// Changes a run under its claim, and wakes whoever watches it.
    fn under_claim<T>(
        &self,
        run: RunId,
        token: ClaimToken,
        change: impl FnOnce(&mut RunRow) -> T,
    ) -> Result<T, QueueError> {
        let mut state = self.0.open()?;
        let row = state
            .runs
            .get_mut(&run)
            .filter(|row| row.claim.as_ref().is_some_and(|claim| claim.token == token))
            .ok_or(QueueError::ClaimLost)?;
        let events = row.events.len();
        let result = change(row);
        let told = row.events.len() > events;
        let waits = row.run.status == RunStatus::Pending;
        if told {
            state.signal(RunTopic::Run(run));
        }
        if waits {
            state.signal(RunTopic::Queue);
        }
        Ok(result)
    }
}

#[async_trait]
impl RunQueue for FakeRunQueue {
    async fn claim(&self, request: ClaimRequest) -> Result<Option<ClaimedRun>, QueueError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let Some(run_id) = state.waiting().into_iter().next() else {
            return Ok(None);
        };
        let Some(row) = state.runs.get_mut(&run_id) else {
            return Ok(None);
        };
        let claim = Claim {
            token: request.token,
            until: now + request.lease,
        };
        let earlier_backend = row.earlier_backend.clone();
        row.begin(claim, request.backend, now);
        let claimed = ClaimedRun {
            token: request.token,
            run_id,
            user_id: row.run.user_id,
            workflow_id: row.run.workflow_id,
            attempt: row.run.attempt,
            graph: row.graph.clone(),
            nodes_total: row.nodes_total,
            lora_ids: row.lora_ids.clone(),
            comfyui_prompt_id: row.run.comfyui_prompt_id.clone(),
            earlier_backend,
        };
        state.claims += 1;
        let count = state.claims;
        state.served.insert(claimed.user_id, count);
        state.signal(RunTopic::Run(run_id));
        Ok(Some(claimed))
    }

    async fn heartbeat(
        &self,
        run: RunId,
        token: ClaimToken,
        lease: Duration,
    ) -> Result<Heartbeat, QueueError> {
        let until = self.0.now() + lease;
        self.under_claim(run, token, |row| {
            row.claim = Some(Claim { token, until });
            Heartbeat {
                cancel_requested: row.cancel_requested,
            }
        })
    }

    async fn report(
        &self,
        run: RunId,
        token: ClaimToken,
        report: RunReport,
    ) -> Result<(), QueueError> {
        let now = self.0.now();
        self.under_claim(run, token, |row| {
            if let Some(prompt_id) = report.comfyui_prompt_id {
                row.run.comfyui_prompt_id = Some(prompt_id);
            }
            if let Some(phase) = report.phase
                && row.run.phase != Some(phase)
            {
                row.run.phase = Some(phase);
                row.record(RunEventKind::Phase, json!({"phase": phase.as_str()}), now);
            }
            if let Some(progress) = report.progress
                && row.run.progress != progress
            {
                row.record(RunEventKind::Progress, progress_data(&progress), now);
                row.run.progress = progress;
            }
        })
    }

    async fn complete(
        &self,
        run: RunId,
        token: ClaimToken,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError> {
        let now = self.0.now();
        self.under_claim(run, token, |row| {
            row.end(RunTransition::Complete, None, outputs, now);
        })
    }

    async fn fail(
        &self,
        run: RunId,
        token: ClaimToken,
        failure: RunFailure,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError> {
        let now = self.0.now();
        self.under_claim(run, token, |row| {
            row.end(RunTransition::Fail, Some(failure), outputs, now);
        })
    }

    async fn cancelled(
        &self,
        run: RunId,
        token: ClaimToken,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError> {
        let now = self.0.now();
        self.under_claim(run, token, |row| {
            row.end(RunTransition::Cancel, None, outputs, now);
        })
    }

    async fn release(
        &self,
        run: RunId,
        token: ClaimToken,
        reason: ReleaseReason,
    ) -> Result<RunStatus, QueueError> {
        let now = self.0.now();
        self.under_claim(run, token, |row| row.release(reason, now))
    }

    async fn recover_expired(&self, limit: u16) -> Result<Vec<RunId>, QueueError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let mut expired: Vec<_> = state
            .runs
            .values()
            .filter_map(|row| Some((row.claim.as_ref()?.until, row.run.id)))
            .filter(|(until, _)| *until < now)
            .collect();
        expired.sort_unstable();
        expired.truncate(usize::from(limit));
        let recovered: Vec<RunId> = expired.into_iter().map(|(_, id)| id).collect();
        for id in &recovered {
            let Some(row) = state.runs.get_mut(id) else {
                continue;
            };
            if row.cancel_requested && row.run.comfyui_prompt_id.is_none() {
                row.end(RunTransition::Cancel, None, Vec::new(), now);
            } else {
                row.release(ReleaseReason::WorkerLost, now);
            }
            state.signal(RunTopic::Run(*id));
        }
        state.signal(RunTopic::Queue);
        Ok(recovered)
    }
}
