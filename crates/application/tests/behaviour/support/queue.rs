use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::ids::{ClaimToken, LoraId, RunId};
use atelier_domain::output::RunOutput;
use atelier_domain::ports::{
    BackendReport, ClaimOutcome, ClaimRequest, Heartbeat, QueueError, QueueFigures, ReleaseReason,
    RepoError, RunQueue, RunReport,
};
use atelier_domain::run::{RunFailure, RunStatus};

/// Remembers what a worker says about runs, and can take claims away.
#[derive(Clone)]
pub(crate) struct RecordingQueue {
    inner: Arc<dyn RunQueue>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    said: Vec<&'static str>,
    claims_lost: bool,
    away: bool,
}

impl RecordingQueue {
    pub(crate) fn new(inner: impl RunQueue + 'static) -> Self {
        Self {
            inner: Arc::new(inner),
            state: Arc::default(),
        }
    }

    /// What was said since the last time; looking for work does not count.
    pub(crate) fn said(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.state.lock().unwrap().said)
    }

    /// From now on every claim is somebody else's, and heartbeats say so.
    pub(crate) fn lose_claims(&self) {
        self.state.lock().unwrap().claims_lost = true;
    }

    /// Makes the queue unreachable for what is said about runs, or reachable.
    pub(crate) fn set_away(&self, away: bool) {
        self.state.lock().unwrap().away = away;
    }

    fn say(&self, what: &'static str) -> Result<(), QueueError> {
        let mut state = self.state.lock().unwrap();
        state.said.push(what);
        if state.claims_lost {
            Err(QueueError::ClaimLost)
        } else if state.away {
            Err(QueueError::Unavailable("the test switched it off".into()))
        } else {
            Ok(())
        }
    }
}

#[async_trait]
impl RunQueue for RecordingQueue {
    async fn claim(&self, request: ClaimRequest) -> Result<ClaimOutcome, QueueError> {
        let outcome = self.inner.claim(request).await?;
        if matches!(outcome, ClaimOutcome::Claimed(_)) {
            self.say("claim")?;
        }
        Ok(outcome)
    }

    async fn heartbeat(
        &self,
        run: RunId,
        token: ClaimToken,
        lease: Duration,
    ) -> Result<Heartbeat, QueueError> {
        self.say("heartbeat")?;
        self.inner.heartbeat(run, token, lease).await
    }

    async fn report(
        &self,
        run: RunId,
        token: ClaimToken,
        report: RunReport,
    ) -> Result<(), QueueError> {
        self.say("report")?;
        self.inner.report(run, token, report).await
    }

    async fn complete(
        &self,
        run: RunId,
        token: ClaimToken,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError> {
        self.say("complete")?;
        self.inner.complete(run, token, outputs).await
    }

    async fn fail(
        &self,
        run: RunId,
        token: ClaimToken,
        failure: RunFailure,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError> {
        self.say("fail")?;
        self.inner.fail(run, token, failure, outputs).await
    }

    async fn cancelled(
        &self,
        run: RunId,
        token: ClaimToken,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError> {
        self.say("cancelled")?;
        self.inner.cancelled(run, token, outputs).await
    }

    async fn release(
        &self,
        run: RunId,
        token: ClaimToken,
        reason: ReleaseReason,
    ) -> Result<RunStatus, QueueError> {
        self.say("release")?;
        self.inner.release(run, token, reason).await
    }

    async fn recover_expired(&self, limit: u16) -> Result<Vec<RunId>, QueueError> {
        self.inner.recover_expired(limit).await
    }

    async fn free_stranded(
        &self,
        patience: Duration,
        limit: u16,
    ) -> Result<Vec<RunId>, QueueError> {
        self.inner.free_stranded(patience, limit).await
    }

    async fn time_out_overdue(&self, limit: u16) -> Result<Vec<RunId>, QueueError> {
        self.inner.time_out_overdue(limit).await
    }

    async fn strays(&self, backend: &str, found: Vec<RunId>) -> Result<Vec<RunId>, QueueError> {
        self.inner.strays(backend, found).await
    }

    async fn tell_backend(&self, report: BackendReport) -> Result<(), QueueError> {
        self.inner.tell_backend(report).await
    }

    async fn tell_loras(&self, backend: &str, loras: Vec<LoraId>) -> Result<(), QueueError> {
        self.inner.tell_loras(backend, loras).await
    }

    async fn forget_answers(&self, limit: u16) -> Result<u64, QueueError> {
        self.inner.forget_answers(limit).await
    }

    async fn figures(&self) -> Result<QueueFigures, RepoError> {
        self.inner.figures().await
    }
}
