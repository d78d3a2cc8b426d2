use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::WorkflowId;
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{Conflict, RepoError, WorkflowRepo, WriteOutcome};
use atelier_domain::text::Description;
use atelier_domain::workflow::{
    NewWorkflow, Revision, Workflow, WorkflowChange, WorkflowFilter, WorkflowScope, WorkflowSummary,
};
use chrono::{DateTime, Utc};

use super::paging::{contains_text, has_tag, page_of};
use super::{FakeStore, State};

/// The workflows of a [`FakeStore`].
#[derive(Clone, Debug)]
pub struct FakeWorkflowRepo(pub(super) FakeStore);

fn is_visible(workflow: &Workflow, actor: &Actor) -> bool {
    workflow.is_public || workflow.user_id == actor.user_id()
}

fn matches(workflow: &Workflow, actor: &Actor, filter: &WorkflowFilter) -> bool {
    let in_scope = match filter.scope {
        WorkflowScope::All => is_visible(workflow, actor),
        WorkflowScope::Own => workflow.user_id == actor.user_id(),
        WorkflowScope::Public => workflow.is_public,
    };
    let texts = [
        Some(workflow.name.as_str()),
        workflow.description.as_ref().map(Description::as_str),
    ];
    in_scope
        && filter
            .tag
            .as_ref()
            .is_none_or(|tag| has_tag(workflow.tags.as_slice(), tag))
        && filter
            .text
            .as_ref()
            .is_none_or(|text| contains_text(&texts, text))
}

fn summary(workflow: &Workflow) -> WorkflowSummary {
    WorkflowSummary {
        id: workflow.id,
        user_id: workflow.user_id,
        name: workflow.name.clone(),
        description: workflow.description.clone(),
        is_public: workflow.is_public,
        tags: workflow.tags.clone(),
        created_at: workflow.created_at,
        updated_at: workflow.updated_at,
    }
}

fn apply(workflow: &mut Workflow, change: WorkflowChange, at: DateTime<Utc>) {
    if let Some(name) = change.name {
        workflow.name = name;
    }
    if let Some(description) = change.description {
        workflow.description = description;
    }
    if let Some(workflow_json) = change.workflow_json {
        workflow.workflow_json = workflow_json;
    }
    if let Some(is_public) = change.is_public {
        workflow.is_public = is_public;
    }
    if let Some(tags) = change.tags {
        workflow.tags = tags;
    }
    workflow.revision = Revision::new(workflow.revision.get() + 1);
    workflow.updated_at = at;
}

/// What stands in the way of the actor's write, or the row.
fn writable<'state>(
    state: &'state mut State,
    actor: &Actor,
    id: WorkflowId,
    expected: Option<Revision>,
) -> WriteOutcome<&'state mut Workflow> {
    match state.workflows.get_mut(&id) {
        Some(workflow) if workflow.user_id == actor.user_id() => {
            if expected.is_none_or(|expected| expected == workflow.revision) {
                WriteOutcome::Done(workflow)
            } else {
                WriteOutcome::Stale(workflow)
            }
        }
        Some(workflow) if workflow.is_public => WriteOutcome::NotYours,
        Some(_) | None => WriteOutcome::NotFound,
    }
}

#[async_trait]
impl WorkflowRepo for FakeWorkflowRepo {
    async fn create(&self, actor: &Actor, new: NewWorkflow) -> Result<Workflow, RepoError> {
        let mut state = self.0.open()?;
        if state.workflows.contains_key(&new.id) {
            return Err(RepoError::Conflict(Conflict::Id));
        }
        let workflow = Workflow {
            id: new.id,
            user_id: actor.user_id(),
            name: new.name,
            description: new.description,
            workflow_json: new.workflow_json,
            is_public: new.is_public,
            tags: new.tags,
            revision: Revision::FIRST,
            created_at: new.created_at,
            updated_at: new.created_at,
        };
        state.workflows.insert(workflow.id, workflow.clone());
        Ok(workflow)
    }

    async fn get(&self, actor: &Actor, id: WorkflowId) -> Result<Option<Workflow>, RepoError> {
        let state = self.0.open()?;
        let workflow = state.workflows.get(&id);
        Ok(workflow.filter(|found| is_visible(found, actor)).cloned())
    }

    async fn list(
        &self,
        actor: &Actor,
        filter: WorkflowFilter,
        page: PageRequest,
    ) -> Result<Page<WorkflowSummary>, RepoError> {
        let state = self.0.open()?;
        let found = state
            .workflows
            .values()
            .filter(|workflow| matches(workflow, actor, &filter))
            .map(summary);
        Ok(page_of(found, page, WorkflowSummary::cursor))
    }

    async fn update(
        &self,
        actor: &Actor,
        id: WorkflowId,
        change: WorkflowChange,
        expected: Option<Revision>,
        at: DateTime<Utc>,
    ) -> Result<WriteOutcome<Workflow>, RepoError> {
        let mut state = self.0.open()?;
        Ok(match writable(&mut state, actor, id, expected) {
            WriteOutcome::Done(workflow) => {
                apply(workflow, change, at);
                WriteOutcome::Done(workflow.clone())
            }
            WriteOutcome::Stale(workflow) => WriteOutcome::Stale(workflow.clone()),
            WriteOutcome::NotFound => WriteOutcome::NotFound,
            WriteOutcome::NotYours => WriteOutcome::NotYours,
        })
    }

    async fn delete(
        &self,
        actor: &Actor,
        id: WorkflowId,
        expected: Option<Revision>,
    ) -> Result<WriteOutcome<()>, RepoError> {
        let mut state = self.0.open()?;
        match writable(&mut state, actor, id, expected) {
            WriteOutcome::Done(_) => {}
            WriteOutcome::Stale(_) => return Ok(WriteOutcome::Stale(())),
            WriteOutcome::NotFound => return Ok(WriteOutcome::NotFound),
            WriteOutcome::NotYours => return Ok(WriteOutcome::NotYours),
        }
        state.workflows.remove(&id);
        for row in state.runs.values_mut() {
            if row.run.workflow_id == Some(id) {
                row.run.workflow_id = None;
            }
        }
        Ok(WriteOutcome::Done(()))
    }
}
