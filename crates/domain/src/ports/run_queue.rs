use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use crate::graph::GraphJson;
use crate::ids::{ClaimToken, LoraId, RunId, UserId, WorkflowId};
use crate::output::RunOutput;
use crate::ports::{RepoError, Source};
use crate::run::{RunFailure, RunPhase, RunProgress, RunStatus};

/// Who wants a run, and for which backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Names the claim from now on.
    pub token: ClaimToken,
    /// Names the worker process, for people who look at the table.
    pub worker: String,
    /// The backend that the worker has room on.
    pub backend: String,
    /// How long the claim holds without a heartbeat.
    pub lease: Duration,
}

/// A run that a worker has under a claim.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedRun {
    /// The claim: every write carries it.
    pub token: ClaimToken,
    /// The run.
    pub run_id: RunId,
    /// Whose it is.
    pub user_id: UserId,
    /// What it executes.
    pub workflow_id: Option<WorkflowId>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// What to submit.
    pub graph: GraphJson,
    /// How many nodes that graph has.
    pub nodes_total: u32,
    /// The LoRAs that it needs on the backend's disk.
    pub lora_ids: Vec<LoraId>,
    /// What an earlier attempt's backend called it, where that attempt may
    /// still live there.
    pub comfyui_prompt_id: Option<String>,
    /// The backend of an earlier attempt, where that attempt may still live
    /// there.
    pub earlier_backend: Option<String>,
}

/// Why a worker's write did not happen.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The claim is no longer the worker's: it must stop touching the run.
    #[error("the claim on the run was lost")]
    ClaimLost,
    /// The queue cannot be reached just now; try again while the lease lasts.
    #[error("the run queue cannot be reached")]
    Unavailable(#[source] Source),
    /// Anything else.
    #[error(transparent)]
    Repo(RepoError),
}

impl From<RepoError> for QueueError {
    fn from(error: RepoError) -> Self {
        match error {
            RepoError::Unavailable(source) => Self::Unavailable(source),
            other => Self::Repo(other),
        }
    }
}

/// What a heartbeat brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// Whether the owner wants the run cancelled.
    pub cancel_requested: bool,
}

/// What a worker reports of a run while it works on it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunReport {
    /// The phase it is in now; `None` leaves it.
    pub phase: Option<RunPhase>,
    /// What the backend calls the run; `None` leaves it.
    pub comfyui_prompt_id: Option<String>,
    /// How far it is; `None` leaves it.
    pub progress: Option<RunProgress>,
}

/// Why a worker gives a run back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReleaseReason {
    /// The worker stops in good order. The run may still live on its backend,
    /// so that is remembered, and the attempt does not count.
    HandOver,
    /// The worker cannot go on. The run may still live on its backend, so that
    /// is remembered.
    WorkerLost,
    /// The backend does not know the run any more: the next attempt submits it
    /// anew.
    BackendLost,
}

/// The worker's side of the runs.
///
/// It acts for nobody: implementations use a role that sees every run. Every
/// method that takes a [`ClaimToken`] MUST change nothing and say
/// [`QueueError::ClaimLost`] unless that claim holds the run, and MUST write
/// its event together with its change.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait RunQueue: Send + Sync {
    /// Takes the next pending run, fair between users: that of the user who
    /// was served longest ago, and of that user's the oldest. `None` if
    /// nothing waits.
    ///
    /// No run is ever claimed by two workers at once.
    async fn claim(&self, request: ClaimRequest) -> Result<Option<ClaimedRun>, QueueError>;

    /// Makes the claim hold for another `lease` from now.
    async fn heartbeat(
        &self,
        run: RunId,
        token: ClaimToken,
        lease: Duration,
    ) -> Result<Heartbeat, QueueError>;

    /// Records how the run goes on.
    async fn report(
        &self,
        run: RunId,
        token: ClaimToken,
        report: RunReport,
    ) -> Result<(), QueueError>;

    /// Ends the run well, with all its outputs, and ends the claim.
    async fn complete(
        &self,
        run: RunId,
        token: ClaimToken,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError>;

    /// Ends the run badly, with what outputs there are, and ends the claim.
    async fn fail(
        &self,
        run: RunId,
        token: ClaimToken,
        failure: RunFailure,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError>;

    /// Ends the run as its owner asked, with what outputs there are, and ends
    /// the claim.
    async fn cancelled(
        &self,
        run: RunId,
        token: ClaimToken,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError>;

    /// Gives the run back: it waits again, or fails after its last attempt.
    /// Says where it stands now.
    async fn release(
        &self,
        run: RunId,
        token: ClaimToken,
        reason: ReleaseReason,
    ) -> Result<RunStatus, QueueError>;

    /// Gives back every run whose lease ran out, as `release` does with
    /// [`ReleaseReason::WorkerLost`], at most `limit`, and says which. A run whose
    /// owner wants it cancelled and that no backend knows ends cancelled.
    async fn recover_expired(&self, limit: u16) -> Result<Vec<RunId>, QueueError>;
}
