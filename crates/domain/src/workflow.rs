//! Workflows: ComfyUI prompts that people keep.

use chrono::{DateTime, Utc};

use crate::graph::GraphJson;
use crate::ids::{UserId, WorkflowId};
use crate::page::Cursor;
use crate::text::{Description, Name, Tags};

/// Counts the changes of a row, from 1; the `ETag` of the HTTP API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(i64);

impl Revision {
    /// The revision of a new row.
    pub const FIRST: Self = Self(1);

    /// Wraps a stored count.
    pub const fn new(count: i64) -> Self {
        Self(count)
    }

    /// The count.
    pub const fn get(self) -> i64 {
        self.0
    }
}

/// A stored ComfyUI prompt with its name and its place in the library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workflow {
    /// Its id.
    pub id: WorkflowId,
    /// Whose it is. Only this person changes it.
    pub user_id: UserId,
    /// What it is called.
    pub name: Name,
    /// What it is for.
    pub description: Option<Description>,
    /// The prompt, in ComfyUI's API format.
    pub workflow_json: GraphJson,
    /// Whether everybody who is signed in may read and run it.
    pub is_public: bool,
    /// Words to find it by.
    pub tags: Tags,
    /// How often it was written.
    pub revision: Revision,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

/// A [`Workflow`] in a list: everything but its graph.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowSummary {
    /// Its id.
    pub id: WorkflowId,
    /// Whose it is.
    pub user_id: UserId,
    /// What it is called.
    pub name: Name,
    /// What it is for.
    pub description: Option<Description>,
    /// Whether everybody who is signed in may read and run it.
    pub is_public: bool,
    /// Words to find it by.
    pub tags: Tags,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub updated_at: DateTime<Utc>,
}

impl WorkflowSummary {
    /// Where the summary stands in a list.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.as_uuid(),
        }
    }
}

/// What is needed to store a new [`Workflow`]; its owner is the actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewWorkflow {
    /// Its id, from the `IdGen` port.
    pub id: WorkflowId,
    /// What it is called.
    pub name: Name,
    /// What it is for.
    pub description: Option<Description>,
    /// The prompt, checked.
    pub workflow_json: GraphJson,
    /// Whether everybody who is signed in may read and run it.
    pub is_public: bool,
    /// Words to find it by.
    pub tags: Tags,
    /// When it is made, from the `Clock` port.
    pub created_at: DateTime<Utc>,
}

/// What changes about a [`Workflow`]; `None` leaves a member as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkflowChange {
    /// The new name.
    pub name: Option<Name>,
    /// The new description; `Some(None)` takes it away.
    pub description: Option<Option<Description>>,
    /// The new prompt, checked.
    pub workflow_json: Option<GraphJson>,
    /// Whether it becomes public.
    pub is_public: Option<bool>,
    /// The new tags, all of them.
    pub tags: Option<Tags>,
}

/// Whose workflows a list holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WorkflowScope {
    /// Everything that the actor sees: own and public ones.
    #[default]
    All,
    /// The actor's own, public or not.
    Own,
    /// The public ones, the actor's own included.
    Public,
}

impl WorkflowScope {
    /// The word that the API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Own => "own",
            Self::Public => "public",
        }
    }
}

/// Which workflows a list holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkflowFilter {
    /// Whose.
    pub scope: WorkflowScope,
    /// Only those with this tag, exactly.
    pub tag: Option<String>,
    /// Only those whose name or description contains this text, whatever the
    /// case.
    pub text: Option<String>,
}

impl WorkflowFilter {
    /// Describes the list, for [`Cursor::encode`].
    pub fn list_name(&self) -> String {
        format!(
            "workflows?scope={}&tag={:?}&q={:?}",
            self.scope.as_str(),
            self.tag,
            self.text
        )
    }
}
