use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::WorkflowId;
use atelier_domain::ports::{Clock, WorkflowRepo, WriteOutcome};
use atelier_domain::workflow::{Revision, Workflow};

use super::{WorkflowDraft, WorkflowError, WorkflowPatch};
use crate::opaque::opaque_debug;

/// Replaces a workflow, or changes members of it.
#[derive(Clone)]
pub struct UpdateWorkflow {
    /// Where it is stored.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// Tells when.
    pub clock: Arc<dyn Clock>,
}

opaque_debug!(UpdateWorkflow);

impl UpdateWorkflow {
    /// Puts `draft` in place of all that the workflow holds.
    ///
    /// With `expected`, nothing changes unless the workflow's revision is that
    /// one: [`WriteOutcome::Stale`].
    ///
    /// # Errors
    /// [`WorkflowError::Invalid`] with everything that is wrong with the draft.
    pub async fn replace(
        &self,
        actor: &Actor,
        id: WorkflowId,
        draft: WorkflowDraft,
        expected: Option<Revision>,
    ) -> Result<WriteOutcome<Workflow>, WorkflowError> {
        self.patch(actor, id, draft.into(), expected).await
    }

    /// Changes the members that `patch` holds and leaves the others.
    ///
    /// # Errors
    /// [`WorkflowError::Invalid`] with everything that is wrong with the patch.
    #[tracing::instrument(skip_all, fields(user.id = %actor.user_id(), workflow.id = %id))]
    pub async fn patch(
        &self,
        actor: &Actor,
        id: WorkflowId,
        patch: WorkflowPatch,
        expected: Option<Revision>,
    ) -> Result<WriteOutcome<Workflow>, WorkflowError> {
        let change = patch.check()?;
        let outcome = self
            .workflows
            .update(actor, id, change, expected, self.clock.now())
            .await?;
        Ok(outcome)
    }
}
