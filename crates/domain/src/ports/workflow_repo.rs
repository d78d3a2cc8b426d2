use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::actor::Actor;
use crate::ids::WorkflowId;
use crate::page::{Page, PageRequest};
use crate::ports::{RepoError, WriteOutcome};
use crate::workflow::{
    NewWorkflow, Revision, Workflow, WorkflowChange, WorkflowFilter, WorkflowSummary,
};

/// Keeps workflows.
///
/// An actor sees own workflows and public ones, and changes own ones only.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait WorkflowRepo: Send + Sync {
    /// Stores a workflow of the actor's.
    ///
    /// # Errors
    /// [`RepoError::Conflict`] if the id is taken.
    async fn create(&self, actor: &Actor, new: NewWorkflow) -> Result<Workflow, RepoError>;

    /// Looks a workflow up; `None` if it is absent or not the actor's to see.
    async fn get(&self, actor: &Actor, id: WorkflowId) -> Result<Option<Workflow>, RepoError>;

    /// Lists workflows, newest first.
    async fn list(
        &self,
        actor: &Actor,
        filter: WorkflowFilter,
        page: PageRequest,
    ) -> Result<Page<WorkflowSummary>, RepoError>;

    /// Changes a workflow, and MUST raise its revision by one.
    ///
    /// With `expected`, MUST change nothing unless the revision is that one,
    /// and answer [`WriteOutcome::Stale`]. A public workflow of somebody else's
    /// is [`WriteOutcome::NotYours`].
    async fn update(
        &self,
        actor: &Actor,
        id: WorkflowId,
        change: WorkflowChange,
        expected: Option<Revision>,
        at: DateTime<Utc>,
    ) -> Result<WriteOutcome<Workflow>, RepoError>;

    /// Deletes a workflow; its runs stay. Outcomes as for `update`.
    async fn delete(
        &self,
        actor: &Actor,
        id: WorkflowId,
        expected: Option<Revision>,
    ) -> Result<WriteOutcome<()>, RepoError>;
}
