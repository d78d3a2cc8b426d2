use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::ids::{ClaimToken, LoraId, RunId};
use atelier_domain::output::RunOutput;
use atelier_domain::ports::{
    BackendReport, ClaimOutcome, ClaimRequest, ClaimedRun, Heartbeat, QueueError, QueueFigures,
    ReleaseReason, RepoError, RunQueue, RunReport, RunTopic,
};
use atelier_domain::run::{RunFailure, RunStatus, RunTransition};
use chrono::{DateTime, TimeDelta, Utc};

use super::placement::{Placement, Told};
use super::run_row::{Claim, RunRow};
use super::{FakeStore, State};

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

    /// Changes the runs that have a time for it and are beyond that, the
    /// longest first, at most `limit`; says which.
    fn beyond(
        &self,
        limit: u16,
        due: impl Fn(&RunRow) -> Option<DateTime<Utc>>,
        change: impl Fn(&mut RunRow, DateTime<Utc>),
    ) -> Result<Vec<RunId>, QueueError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let mut found: Vec<_> = state
            .runs
            .values()
            .filter_map(|row| Some((due(row)?, row.run.id)))
            .filter(|(due, _)| *due < now)
            .collect();
        found.sort_unstable();
        found.truncate(usize::from(limit));
        let found: Vec<RunId> = found.into_iter().map(|(_, id)| id).collect();
        for id in &found {
            if let Some(row) = state.runs.get_mut(id) {
                change(row, now);
            }
            state.signal(RunTopic::Run(*id));
        }
        state.signal(RunTopic::Queue);
        Ok(found)
    }
}

impl State {
    fn begin(
        &mut self,
        id: RunId,
        request: ClaimRequest,
        now: DateTime<Utc>,
    ) -> Option<ClaimedRun> {
        let row = self.runs.get_mut(&id)?;
        let claim = Claim {
            token: request.token,
            until: now + request.lease,
        };
        let resumes = row.begin(claim, request.backend, now);
        let begun = row.run.started_at.unwrap_or(now);
        let left = begun + Duration::from_secs(row.run.timeout_s.into()) - now;
        let claimed = ClaimedRun {
            token: request.token,
            run_id: id,
            user_id: row.run.user_id,
            workflow_id: row.run.workflow_id,
            attempt: row.run.attempt,
            graph: row.graph.clone(),
            nodes_total: row.nodes_total,
            lora_ids: row.lora_ids.clone(),
            input_ids: row.input_ids.clone(),
            trace_parent: row.trace_parent.clone(),
            progress: row.run.progress.clone(),
            timeout_s: row.run.timeout_s,
            remaining: left.to_std().unwrap_or_default(),
            resumes,
        };
        if claimed.resumes.is_none() {
            self.claims += 1;
            self.served.insert(claimed.user_id, self.claims);
        }
        self.signal(RunTopic::Run(id));
        Some(claimed)
    }
}

#[async_trait]
impl RunQueue for FakeRunQueue {
    async fn claim(&self, request: ClaimRequest) -> Result<ClaimOutcome, QueueError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        Ok(match state.place(&request, now) {
            Placement::Take(id) => state
                .begin(id, request, now)
                .map_or(ClaimOutcome::Nothing, |run| {
                    ClaimOutcome::Claimed(Box::new(run))
                }),
            Placement::Defer(patience) => {
                ClaimOutcome::Deferred(patience.to_std().unwrap_or_default())
            }
            Placement::Nothing => ClaimOutcome::Nothing,
        })
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
        self.under_claim(run, token, |row| row.report(report, now))
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
        self.beyond(
            limit,
            |row| Some(row.claim.as_ref()?.until),
            |row, now| {
                row.release(ReleaseReason::WorkerLost, now);
            },
        )
    }

    async fn free_stranded(
        &self,
        patience: Duration,
        limit: u16,
    ) -> Result<Vec<RunId>, QueueError> {
        let patience = TimeDelta::from_std(patience).unwrap_or(TimeDelta::MAX);
        self.beyond(
            limit,
            |row| {
                let strands = row.run.status == RunStatus::Pending && row.lives_on.is_some();
                let due = row.waiting_since.checked_add_signed(patience);
                due.filter(|_| strands)
            },
            RunRow::free,
        )
    }

    async fn time_out_overdue(&self, limit: u16) -> Result<Vec<RunId>, QueueError> {
        self.beyond(
            limit,
            |row| {
                let waits = row.run.status == RunStatus::Pending;
                let begun = row.run.started_at.filter(|_| waits)?;
                Some(begun + Duration::from_secs(row.run.timeout_s.into()))
            },
            |row, now| {
                let failure = RunFailure::timed_out(row.run.timeout_s.into());
                row.end(RunTransition::TimeOut, Some(failure), Vec::new(), now);
            },
        )
    }

    async fn strays(&self, backend: &str, found: Vec<RunId>) -> Result<Vec<RunId>, QueueError> {
        let at = self.0.now();
        let mut state = self.0.open()?;
        for id in &found {
            if let Some(row) = state.runs.get_mut(id) {
                row.adopt(backend, at);
            }
        }
        let is_stray = |id: &RunId| {
            state.runs.get(id).is_some_and(|row| match row.run.status {
                RunStatus::Pending => {
                    row.lives_on.as_deref().is_some_and(|on| on != backend)
                        && row.abandoned_on.contains(backend)
                }
                RunStatus::Running => {
                    row.run.backend.as_deref() != Some(backend)
                        && row.abandoned_on.contains(backend)
                }
                RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled => true,
            })
        };
        Ok(found.into_iter().filter(is_stray).collect())
    }

    async fn tell_backend(&self, report: BackendReport) -> Result<(), QueueError> {
        let at = self.0.now();
        let key = (report.backend.clone(), report.worker.clone());
        self.0.open()?.backends.insert(key, Told { report, at });
        Ok(())
    }

    async fn tell_loras(&self, backend: &str, loras: Vec<LoraId>) -> Result<(), QueueError> {
        let mut state = self.0.open()?;
        let copies = loras.into_iter().map(|lora| (lora, backend.to_owned()));
        state.copies.extend(copies);
        Ok(())
    }

    async fn forget_answers(&self, limit: u16) -> Result<u64, QueueError> {
        let now = self.0.now();
        Ok(self.0.open()?.forget_answers(limit, now))
    }

    async fn figures(&self) -> Result<QueueFigures, RepoError> {
        let now = self.0.now();
        let state = self.0.open()?;
        let waiting = state.runs.values().filter(|row| row.waits());
        let oldest = waiting.clone().map(|row| row.waiting_since).min();
        let running = state.runs.values().filter(|row| row.runs());
        Ok(QueueFigures {
            waiting: waiting.count() as u64,
            oldest: oldest.map_or(Duration::ZERO, |since| {
                (now - since).to_std().unwrap_or_default()
            }),
            running: running.count() as u64,
        })
    }
}
