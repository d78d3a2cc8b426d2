use std::fmt;

use atelier_domain::workflow::WorkflowChange;

use super::WorkflowError;
use crate::fields::Fields;

/// A whole workflow as somebody sends it, unchecked.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WorkflowDraft {
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// The prompt as JSON text, exactly as it was sent: equal keys and deep
    /// nesting are faults that a parsed document no longer shows.
    pub workflow_json: String,
    /// Whether everybody who is signed in may read and run it.
    pub is_public: bool,
    /// Words to find it by.
    pub tags: Vec<String>,
}

/// What is to change about a workflow, unchecked; `None` leaves a member as it
/// is.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WorkflowPatch {
    /// The new name.
    pub name: Option<String>,
    /// The new description; `Some(None)` takes it away.
    pub description: Option<Option<String>>,
    /// The new prompt as JSON text.
    pub workflow_json: Option<String>,
    /// Whether it becomes public.
    pub is_public: Option<bool>,
    /// The new tags, all of them.
    pub tags: Option<Vec<String>>,
}

/// Leaves the prompt out: it does not belong in a log.
impl fmt::Debug for WorkflowDraft {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WorkflowDraft")
            .field("workflow_json_bytes", &self.workflow_json.len())
            .field("is_public", &self.is_public)
            .finish_non_exhaustive()
    }
}

/// Leaves the prompt out: it does not belong in a log.
impl fmt::Debug for WorkflowPatch {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("WorkflowPatch")
            .field(
                "workflow_json_bytes",
                &self.workflow_json.as_ref().map(String::len),
            )
            .field("is_public", &self.is_public)
            .finish_non_exhaustive()
    }
}

impl From<WorkflowDraft> for WorkflowPatch {
    fn from(draft: WorkflowDraft) -> Self {
        Self {
            name: Some(draft.name),
            description: Some(draft.description),
            workflow_json: Some(draft.workflow_json),
            is_public: Some(draft.is_public),
            tags: Some(draft.tags),
        }
    }
}

impl WorkflowPatch {
    /// Checks every member that is there.
    pub(super) fn check(&self) -> Result<WorkflowChange, WorkflowError> {
        let mut fields = Fields::default();
        let change = WorkflowChange {
            name: self.name.as_deref().and_then(|name| fields.name(name)),
            description: self
                .description
                .as_ref()
                .and_then(|description| fields.description(description.as_deref())),
            workflow_json: self
                .workflow_json
                .as_deref()
                .and_then(|text| fields.graph(text)),
            is_public: self.is_public,
            tags: self.tags.as_deref().and_then(|tags| fields.tags(tags)),
        };
        let violations = fields.into_violations();
        if violations.is_empty() {
            Ok(change)
        } else {
            Err(WorkflowError::Invalid(violations))
        }
    }
}
