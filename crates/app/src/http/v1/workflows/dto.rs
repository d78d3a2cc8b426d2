//! Workflows on the wire.

use actix_web::HttpResponse;
use actix_web::HttpResponseBuilder;
use actix_web::http::header::{CACHE_CONTROL, ContentType, ETAG};
use atelier_application::workflows::{WorkflowDraft, WorkflowPatch};
use atelier_domain::ids::WorkflowId;
use atelier_domain::text;
use atelier_domain::workflow::{Workflow, WorkflowSummary};
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::PREFIX;
use crate::http::etag::revision_tag;
use crate::http::json::Members;
use crate::http::openapi::values::{Description, Name, Prompt, Tags};
use crate::http::problem::Problem;
use crate::http::time::Timestamp;

/// A whole workflow as it is sent.
#[derive(ToSchema)]
#[schema(as = WorkflowDraft)]
#[serde(deny_unknown_fields)]
pub(crate) struct DraftBody {
    #[schema(value_type = Name)]
    name: String,
    #[schema(value_type = Option<Description>)]
    description: Option<String>,
    #[schema(value_type = Prompt)]
    workflow_json: String,
    /// Whether everybody who is signed in may read and run it; not unless told.
    #[schema(value_type = Option<bool>)]
    is_public: bool,
    #[schema(value_type = Option<Tags>)]
    tags: Vec<String>,
}

impl DraftBody {
    /// Reads a body.
    ///
    /// # Errors
    /// `invalid-json`, or `validation` with every member that is missing, of
    /// another type, or unknown.
    pub(super) fn read(body: &[u8]) -> Result<Self, Problem> {
        let mut members = Members::parse(body)?;
        let name = members.required("name");
        let description = members.optional("description");
        let workflow_json = members.required_raw("workflow_json");
        let is_public = members.optional("is_public");
        let tags = members.optional("tags");
        members.finish()?;
        Ok(Self {
            name: name.unwrap_or_default(),
            description,
            workflow_json: workflow_json.unwrap_or_default(),
            is_public: is_public.unwrap_or_default(),
            tags: tags.unwrap_or_default(),
        })
    }

    pub(super) fn into_draft(self) -> WorkflowDraft {
        WorkflowDraft {
            name: self.name,
            description: self.description,
            workflow_json: self.workflow_json,
            is_public: self.is_public,
            tags: self.tags,
        }
    }
}

/// What is to change about a workflow (a merge patch, RFC 7396): a member that
/// is left out stays, null takes it away. `workflow_json` is replaced whole.
#[derive(ToSchema)]
#[schema(as = WorkflowPatch)]
#[serde(deny_unknown_fields)]
pub(crate) struct PatchBody {
    /// The new name.
    #[schema(value_type = Name, required = false)]
    name: Option<String>,
    /// The new description; null takes it away.
    #[schema(value_type = Option<Description>)]
    #[expect(
        clippy::option_option,
        reason = "absent and null are two things in a merge patch"
    )]
    description: Option<Option<String>>,
    /// The new prompt.
    #[schema(value_type = Prompt, required = false)]
    workflow_json: Option<String>,
    /// Whether it becomes public; null is false.
    is_public: Option<bool>,
    /// The new tags, all of them; null is none.
    #[schema(value_type = Option<Tags>)]
    tags: Option<Vec<String>>,
}

impl PatchBody {
    /// Reads a body. Errors as for [`DraftBody::read`].
    pub(super) fn read(body: &[u8]) -> Result<Self, Problem> {
        let mut members = Members::parse(body)?;
        let patch = Self {
            name: members.lasting("name"),
            description: members.nullable("description"),
            workflow_json: members.lasting_raw("workflow_json"),
            is_public: members.nullable("is_public").map(Option::unwrap_or_default),
            tags: members.nullable("tags").map(Option::unwrap_or_default),
        };
        members.finish()?;
        Ok(patch)
    }

    pub(super) fn into_patch(self) -> WorkflowPatch {
        WorkflowPatch {
            name: self.name,
            description: self.description,
            workflow_json: self.workflow_json,
            is_public: self.is_public,
            tags: self.tags,
        }
    }
}

/// A workflow in a list: everything but its prompt.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = WorkflowSummary)]
pub(crate) struct SummaryBody<'a> {
    /// Its id.
    id: Uuid,
    /// Whose it is. Only this person changes it.
    user_id: Uuid,
    #[schema(value_type = Name)]
    name: &'a str,
    #[schema(value_type = Option<Description>)]
    description: Option<&'a str>,
    /// Whether everybody who is signed in may read and run it.
    is_public: bool,
    #[schema(value_type = Tags)]
    tags: &'a [String],
    /// When it was made.
    created_at: Timestamp,
    /// When it was last changed.
    updated_at: Timestamp,
}

impl<'a> From<&'a WorkflowSummary> for SummaryBody<'a> {
    fn from(summary: &'a WorkflowSummary) -> Self {
        let WorkflowSummary {
            id,
            user_id,
            name,
            description,
            is_public,
            tags,
            created_at,
            updated_at,
        } = summary;
        Self {
            id: id.as_uuid(),
            user_id: user_id.as_uuid(),
            name: name.as_str(),
            description: description.as_ref().map(text::Description::as_str),
            is_public: *is_public,
            tags: tags.as_slice(),
            created_at: Timestamp(*created_at),
            updated_at: Timestamp(*updated_at),
        }
    }
}

/// A workflow.
#[derive(ToSchema)]
#[schema(as = Workflow)]
#[expect(dead_code, reason = "describes what workflow_response writes by hand")]
pub(crate) struct WorkflowBody {
    #[serde(flatten)]
    summary: SummaryBody<'static>,
    #[schema(value_type = Prompt)]
    workflow_json: String,
}

/// Where a workflow is.
pub(super) fn location(id: WorkflowId) -> String {
    format!("{PREFIX}/workflows/{id}")
}

/// Answers with a workflow and its `ETag`.
///
/// The prompt goes out as the text that is stored: it may have megabytes, and
/// nothing here needs to know what is in it.
pub(super) fn workflow_response(
    mut response: HttpResponseBuilder,
    workflow: &Workflow,
) -> Result<HttpResponse, Problem> {
    let graph = workflow.workflow_json.as_str();
    let mut body = Vec::with_capacity(graph.len() + 1_024);
    serde_json::to_writer(&mut body, &summary_of(workflow)).map_err(Problem::internal)?;
    // Opens the object again, to add one more member.
    body.pop();
    body.extend_from_slice(b",\"workflow_json\":");
    body.extend_from_slice(graph.as_bytes());
    body.push(b'}');
    Ok(response
        .insert_header((ETAG, revision_tag(workflow.revision)))
        .insert_header((CACHE_CONTROL, "private, no-cache"))
        .content_type(ContentType::json())
        .body(body))
}

fn summary_of(workflow: &Workflow) -> SummaryBody<'_> {
    let Workflow {
        id,
        user_id,
        name,
        description,
        workflow_json: _,
        is_public,
        tags,
        revision: _,
        created_at,
        updated_at,
    } = workflow;
    SummaryBody {
        id: id.as_uuid(),
        user_id: user_id.as_uuid(),
        name: name.as_str(),
        description: description.as_ref().map(text::Description::as_str),
        is_public: *is_public,
        tags: tags.as_slice(),
        created_at: Timestamp(*created_at),
        updated_at: Timestamp(*updated_at),
    }
}
