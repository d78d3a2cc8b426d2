use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::actor::Actor;
use crate::idempotency::{EarlierRequest, IdempotentRequest, StoredAnswer};
use crate::ids::RunId;
use crate::page::{Page, PageRequest};
use crate::ports::{RepoError, WriteOutcome};
use crate::run::{NewRun, Run, RunBlueprint, RunEvent, RunFilter, RunStatus};

/// Under what conditions a run is put into the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnqueueTerms {
    /// How many runs of one person may wait at once.
    pub max_pending: u32,
    /// The request that is carried out once, and its answer.
    pub idempotency: Option<(IdempotentRequest, StoredAnswer)>,
}

/// What became of a run that was to be put into the queue.
#[derive(Clone, Debug, PartialEq)]
pub enum EnqueueOutcome {
    /// It waits.
    Enqueued(Box<Run>),
    /// Nothing was written: the request came before.
    Earlier(EarlierRequest),
    /// Nothing was written: the person has as many runs waiting as they may.
    TooManyPending,
}

/// Keeps runs, from their owners' side.
///
/// An actor sees own runs only.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait RunRepo: Send + Sync {
    /// Says what an earlier request under the same key left, before anything is
    /// looked at: what a request refers to may be gone since.
    async fn earlier_request(
        &self,
        actor: &Actor,
        request: &IdempotentRequest,
    ) -> Result<Option<EarlierRequest>, RepoError>;

    /// Puts a run into the queue: MUST write the run, its first event (status
    /// `pending`) and the answer to its idempotent request together, and wake the
    /// workers once all are visible. Of two such requests at the same time one
    /// MUST be carried out at most; the other is
    /// [`EarlierRequest::Underway`] or gets the first one's answer.
    ///
    /// # Errors
    /// [`RepoError::Conflict`] if the id is taken.
    async fn enqueue(
        &self,
        actor: &Actor,
        new: NewRun,
        terms: EnqueueTerms,
    ) -> Result<EnqueueOutcome, RepoError>;

    /// Reads what is needed to do again what a run did; `None` if it is absent
    /// or not the actor's.
    async fn blueprint(&self, actor: &Actor, id: RunId) -> Result<Option<RunBlueprint>, RepoError>;

    /// Looks a run up, with its outputs, and with its place in the queue if it
    /// waits; `None` if it is absent or not the actor's.
    async fn get(&self, actor: &Actor, id: RunId) -> Result<Option<Run>, RepoError>;

    /// Says where a run stands, and nothing more, for whoever waits for its end;
    /// `None` if it is absent or not the actor's.
    async fn status(&self, actor: &Actor, id: RunId) -> Result<Option<RunStatus>, RepoError>;

    /// Lists runs with their outputs, newest first, without their places in the
    /// queue.
    async fn list(
        &self,
        actor: &Actor,
        filter: RunFilter,
        page: PageRequest,
    ) -> Result<Page<Run>, RepoError>;

    /// Asks that a run be cancelled: a pending run ends at once, a running one
    /// when its worker notices. Asking again changes nothing.
    ///
    /// A run that is over is [`WriteOutcome::Stale`].
    async fn request_cancel(
        &self,
        actor: &Actor,
        id: RunId,
        at: DateTime<Utc>,
    ) -> Result<WriteOutcome<Run>, RepoError>;

    /// Reads a run's events after `after_sequence` (0 for all), oldest first,
    /// at most `limit`; `None` if the run is absent or not the actor's.
    async fn events(
        &self,
        actor: &Actor,
        id: RunId,
        after_sequence: i64,
        limit: u16,
    ) -> Result<Option<Vec<RunEvent>>, RepoError>;
}
