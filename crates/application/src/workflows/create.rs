use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::WorkflowId;
use atelier_domain::ports::{Clock, IdGen, WorkflowRepo};
use atelier_domain::workflow::{NewWorkflow, Workflow};

use super::{WorkflowDraft, WorkflowError};
use crate::fields::Fields;
use crate::opaque::opaque_debug;

/// Checks a workflow and stores it.
#[derive(Clone)]
pub struct CreateWorkflow {
    /// Where it is stored.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// Tells when.
    pub clock: Arc<dyn Clock>,
    /// Names it.
    pub ids: Arc<dyn IdGen>,
}

opaque_debug!(CreateWorkflow);

impl CreateWorkflow {
    /// Stores `draft` as a workflow of the actor's.
    ///
    /// The graph is stored as it was checked: compact, with what ComfyUI would
    /// not read the same way refused.
    ///
    /// # Errors
    /// [`WorkflowError::Invalid`] with everything that is wrong with the draft.
    #[tracing::instrument(skip_all, fields(user.id = %actor.user_id()))]
    pub async fn execute(
        &self,
        actor: &Actor,
        draft: WorkflowDraft,
    ) -> Result<Workflow, WorkflowError> {
        let new = self.check(&draft)?;
        Ok(self.workflows.create(actor, new).await?)
    }

    fn check(&self, draft: &WorkflowDraft) -> Result<NewWorkflow, WorkflowError> {
        let mut fields = Fields::default();
        let name = fields.name(&draft.name);
        let description = fields.description(draft.description.as_deref());
        let workflow_json = fields.graph(&draft.workflow_json);
        let tags = fields.tags(&draft.tags);
        let (Some(name), Some(description), Some(workflow_json), Some(tags)) =
            (name, description, workflow_json, tags)
        else {
            return Err(WorkflowError::Invalid(fields.into_violations()));
        };
        Ok(NewWorkflow {
            id: WorkflowId::new(self.ids.new_id()),
            name,
            description,
            workflow_json,
            is_public: draft.is_public,
            tags,
            created_at: self.clock.now(),
        })
    }
}
