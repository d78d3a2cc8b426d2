use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use crate::graph::GraphJson;
use crate::ids::{ClaimToken, InputId, LoraId, RunId, UserId, WorkflowId};
use crate::output::RunOutput;
use crate::ports::{RepoError, Source};
use crate::run::{RunFailure, RunLoss, RunPhase, RunProgress, RunStatus};

/// Who wants a run, and for which backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRequest {
    /// Names the claim from now on.
    pub token: ClaimToken,
    /// Names the worker process, for people who look at the table.
    pub worker: String,
    /// The backend that the worker has room on.
    pub backend: String,
    /// How many runs that backend may have at once, whichever workers claimed
    /// them.
    pub max_in_flight: u32,
    /// How long the claim holds without a heartbeat.
    pub lease: Duration,
    /// How long a run is left to a backend that suits it better.
    pub affinity: Duration,
    /// How many runs of one person may be under way at once; `None` for as many
    /// as there is room for.
    pub max_running: Option<u32>,
}

/// What a wish for a run brings.
#[derive(Clone, Debug, PartialEq)]
pub enum ClaimOutcome {
    /// A run.
    Claimed(Box<ClaimedRun>),
    /// What waits is left to backends that suit it better; after so long it no
    /// longer is.
    Deferred(Duration),
    /// Nothing waits, or the backend is full.
    Nothing,
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
    /// The input files that it needs on the backend.
    pub input_ids: Vec<InputId>,
    /// The trace that its request belongs to; see
    /// [`NewRun::trace_parent`](crate::run::NewRun::trace_parent).
    pub trace_parent: Option<String>,
    /// What this backend would call it if an earlier attempt is alive there:
    /// look it up before it is submitted.
    pub resumes: Option<String>,
    /// How far the earlier attempt was, if one may be alive here.
    pub progress: RunProgress,
    /// How long it may take, in whole seconds from its first beginning.
    pub timeout_s: u32,
    /// How much of that is left.
    pub remaining: Duration,
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
    /// The worker stops in good order; this costs nothing.
    HandOver {
        /// Whether the backend may have the run by now.
        may_live: bool,
    },
    /// The worker cannot go on. The backend may have the run.
    WorkerLost,
    /// The backend has not answered for too long. It may have the run.
    BackendAway,
    /// The backend does not have the run, and never began to execute it: the
    /// next attempt submits it anew.
    BackendLost,
    /// The backend had begun to execute the run and does not have it any more,
    /// or breaks down when it is given to it.
    ExecutionLost,
}

impl ReleaseReason {
    /// What was lost, if anything.
    pub const fn loss(self) -> Option<RunLoss> {
        match self {
            Self::HandOver { .. } => None,
            Self::WorkerLost => Some(RunLoss::Worker),
            Self::BackendAway | Self::BackendLost => Some(RunLoss::Backend),
            Self::ExecutionLost => Some(RunLoss::Execution),
        }
    }

    /// Whether the run may be alive on the backend. Then only that backend may
    /// have it for a while: see [`RunQueue::free_stranded`].
    pub const fn may_live(self) -> bool {
        match self {
            Self::HandOver { may_live } => may_live,
            Self::WorkerLost | Self::BackendAway => true,
            Self::BackendLost | Self::ExecutionLost => false,
        }
    }
}

/// What a worker says of a backend that it serves, for the placement of runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendReport {
    /// The backend.
    pub backend: String,
    /// The worker process.
    pub worker: String,
    /// Whether the backend answers and takes runs.
    pub answers: bool,
    /// How many runs it may have at once.
    pub max_in_flight: u32,
    /// Prompts in its queue that are not ours.
    pub foreign_prompts: u32,
    /// The checkpoint that it loaded last.
    pub checkpoint: Option<String>,
}

/// How the queue is, for people who look at it from outside.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct QueueFigures {
    /// How many runs wait.
    pub waiting: u64,
    /// How long the one has waited that has waited longest since it was asked
    /// for or came back; zero if none waits.
    pub oldest: Duration,
    /// How many runs are under way.
    pub running: u64,
}

/// How long a worker's word about a backend counts. Workers say it anew three
/// times as often.
pub const BACKEND_REPORT_LIFETIME: Duration = Duration::from_secs(15);

/// The worker's side of the runs.
///
/// It acts for nobody: implementations use a role that sees every run. Every
/// method that takes a [`ClaimToken`] MUST change nothing and say
/// [`QueueError::ClaimLost`] unless that claim holds the run, and MUST write
/// its event together with its change.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait RunQueue: Send + Sync {
    /// Takes the next pending run for a backend.
    ///
    /// First come runs that may be alive there already, whose backend is full
    /// or not. Then, while the backend has fewer than `max_in_flight`, people
    /// take turns: that of the person who was served longest ago, and of
    /// that person's the one of the highest priority, and of those the oldest.
    /// Who has `max_running` runs under way has to wait for one of them to end;
    /// MUST hold however many claim at once.
    ///
    /// A run is left alone while another backend suits it better: one that
    /// answers and has room (see [`RunQueue::tell_backend`]), and that has more of
    /// its LoRAs, or as many and its checkpoint loaded, or both alike and fewer
    /// runs. That holds for `affinity` from the first time it is left, and only a
    /// tenth of that where nothing but the number of runs differs; then whoever
    /// asks gets it.
    ///
    /// No run is ever claimed by two workers at once.
    async fn claim(&self, request: ClaimRequest) -> Result<ClaimOutcome, QueueError>;

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

    /// Gives the run back: it waits again, or fails when it has lost the same
    /// thing as often as [`RunLoss::budget`] says. Says where it stands now.
    ///
    /// A run whose owner wants it cancelled and that cannot be alive anywhere ends
    /// cancelled.
    async fn release(
        &self,
        run: RunId,
        token: ClaimToken,
        reason: ReleaseReason,
    ) -> Result<RunStatus, QueueError>;

    /// Gives back every run whose lease ran out, as `release` does with
    /// [`ReleaseReason::WorkerLost`], at most `limit`, and says which.
    async fn recover_expired(&self, limit: u16) -> Result<Vec<RunId>, QueueError>;

    /// Frees pending runs that have waited longer than `patience` for the
    /// backend on which they may be alive: any backend may begin them anew. At
    /// most `limit`; says which.
    async fn free_stranded(&self, patience: Duration, limit: u16)
    -> Result<Vec<RunId>, QueueError>;

    /// Ends pending runs that were begun longer ago than they may take
    /// ([`RunFailure::timed_out`]), at most `limit`, and says which. Those that
    /// wait for their first attempt have all the time in the world.
    async fn time_out_overdue(&self, limit: u16) -> Result<Vec<RunId>, QueueError>;

    /// Says which of these runs, found in a backend's queue, have no business
    /// there: they are over, or went elsewhere after [`RunQueue::free_stranded`]
    /// gave them up on this one. One that waits for any backend is alive on this
    /// one: from now on it waits for this one alone. Ids of no run are left out.
    async fn strays(&self, backend: &str, found: Vec<RunId>) -> Result<Vec<RunId>, QueueError>;

    /// Records how a backend is, for the placement of runs; the word counts for
    /// [`BACKEND_REPORT_LIFETIME`].
    async fn tell_backend(&self, report: BackendReport) -> Result<(), QueueError>;

    /// Records that these LoRAs are on a backend's disk, for the placement of
    /// runs.
    async fn tell_loras(&self, backend: &str, loras: Vec<LoraId>) -> Result<(), QueueError>;

    /// Forgets the answers to idempotent requests that are older than
    /// [`RETENTION_HOURS`](crate::idempotency::RETENTION_HOURS), at most `limit`;
    /// says how many.
    async fn forget_answers(&self, limit: u16) -> Result<u64, QueueError>;

    /// Says how the queue is.
    async fn figures(&self) -> Result<QueueFigures, RepoError>;
}
