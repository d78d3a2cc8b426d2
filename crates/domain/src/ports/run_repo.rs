use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::actor::Actor;
use crate::ids::RunId;
use crate::page::{Page, PageRequest};
use crate::ports::{RepoError, WriteOutcome};
use crate::run::{NewRun, Run, RunEvent, RunFilter};

/// Keeps runs, from their owners' side.
///
/// An actor sees own runs only.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait RunRepo: Send + Sync {
    /// Puts a run into the queue: MUST write the run and its first event
    /// (status `pending`) together, and wake the workers once both are
    /// visible.
    ///
    /// # Errors
    /// [`RepoError::Conflict`] if the id is taken.
    async fn enqueue(&self, actor: &Actor, new: NewRun) -> Result<Run, RepoError>;

    /// Looks a run up, with its outputs; `None` if it is absent or not the
    /// actor's.
    async fn get(&self, actor: &Actor, id: RunId) -> Result<Option<Run>, RepoError>;

    /// Lists runs with their outputs, newest first.
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
