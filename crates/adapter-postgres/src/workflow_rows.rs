//! Rows of workflows, and what they mean to the domain.

use atelier_domain::graph::GraphJson;
use atelier_domain::ports::RepoError;
use atelier_domain::text::{Description, Name, Tags};
use atelier_domain::workflow::{Revision, Workflow, WorkflowChange, WorkflowSummary};
use chrono::{DateTime, Utc};
use diesel::{AsChangeset, Queryable, QueryableByName, Selectable};
use uuid::Uuid;

use crate::error::inconsistent;
use crate::json_text::JsonText;
use crate::schema::comfyui_workflows;

const TABLE: &str = "comfyui_workflows";

#[derive(Queryable, QueryableByName, Selectable)]
#[diesel(table_name = comfyui_workflows, check_for_backend(diesel::pg::Pg))]
pub(crate) struct WorkflowRow {
    id: Uuid,
    user_id: Uuid,
    name: String,
    description: Option<String>,
    workflow_json: JsonText,
    is_public: bool,
    tags: Vec<String>,
    revision: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl WorkflowRow {
    pub(crate) fn owner(&self) -> Uuid {
        self.user_id
    }
}

impl TryFrom<WorkflowRow> for Workflow {
    type Error = RepoError;

    fn try_from(row: WorkflowRow) -> Result<Self, RepoError> {
        Ok(Self {
            id: row.id.into(),
            user_id: row.user_id.into(),
            name: name(row.name, row.id)?,
            description: description(row.description, row.id)?,
            workflow_json: GraphJson::from_trusted(row.workflow_json.0),
            is_public: row.is_public,
            tags: tags(row.tags, row.id)?,
            revision: Revision::new(row.revision),
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

#[derive(QueryableByName)]
#[diesel(table_name = comfyui_workflows, check_for_backend(diesel::pg::Pg))]
pub(crate) struct WorkflowSummaryRow {
    id: Uuid,
    user_id: Uuid,
    name: String,
    description: Option<String>,
    is_public: bool,
    tags: Vec<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

impl TryFrom<WorkflowSummaryRow> for WorkflowSummary {
    type Error = RepoError;

    fn try_from(row: WorkflowSummaryRow) -> Result<Self, RepoError> {
        Ok(Self {
            id: row.id.into(),
            user_id: row.user_id.into(),
            name: name(row.name, row.id)?,
            description: description(row.description, row.id)?,
            is_public: row.is_public,
            tags: tags(row.tags, row.id)?,
            created_at: row.created_at,
            updated_at: row.updated_at,
        })
    }
}

fn name(text: String, row: Uuid) -> Result<Name, RepoError> {
    Name::parse(text).map_err(|_broken| inconsistent(TABLE, "name", row))
}

fn description(text: Option<String>, row: Uuid) -> Result<Option<Description>, RepoError> {
    text.map(Description::parse)
        .transpose()
        .map_err(|_broken| inconsistent(TABLE, "description", row))
}

fn tags(words: Vec<String>, row: Uuid) -> Result<Tags, RepoError> {
    Tags::parse(words).map_err(|_broken| inconsistent(TABLE, "tags", row))
}

#[derive(AsChangeset)]
#[diesel(table_name = comfyui_workflows)]
pub(crate) struct WorkflowChangeRow {
    name: Option<String>,
    #[expect(
        clippy::option_option,
        reason = "diesel's form: none leaves it, some none makes it null"
    )]
    description: Option<Option<String>>,
    workflow_json: Option<JsonText>,
    is_public: Option<bool>,
    tags: Option<Vec<String>>,
    updated_at: DateTime<Utc>,
}

impl WorkflowChangeRow {
    pub(crate) fn new(change: WorkflowChange, at: DateTime<Utc>) -> Self {
        Self {
            name: change.name.map(|name| name.as_str().to_owned()),
            description: change
                .description
                .map(|text| text.map(|text| text.as_str().to_owned())),
            workflow_json: change
                .workflow_json
                .map(|graph| JsonText(graph.as_str().to_owned())),
            is_public: change.is_public,
            tags: change.tags.map(Tags::into_vec),
            updated_at: at,
        }
    }
}
