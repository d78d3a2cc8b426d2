//! `PUT /workflows/{id}`

use actix_web::{HttpRequest, HttpResponse, web};

use super::dto::{DraftBody, WorkflowBody, workflow_response};
use super::precondition::{expected_revision, written};
use crate::http::api::Api;
use crate::http::auth::WritesWorkflows;
use crate::http::etag::IfMatch;
use crate::http::json::JsonBody;
use crate::http::openapi::ProblemResponse;
use crate::http::openapi::values::RevisionTag;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Replaces all that a workflow of one's own holds.
#[utoipa::path(put, path = "/api/v1/comfyui/workflows/{id}", operation_id = "replaceWorkflow", tag = "workflows",
    params(
        ("id" = Uuid, Path, description = "The workflow's id."),
        ("If-Match" = Option<String>, Header, description = "The ETag that it must have.")),
    request_body(content = DraftBody, content_type = "application/json"),
    responses(
        (status = 200, description = "It is written.", body = WorkflowBody,
            headers(("ETag" = inline(RevisionTag), description = "Its revision."))),
        (status = 412, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesWorkflows(actor): WritesWorkflows,
    path: PathSegments,
    query: Query,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let id = path.id()?;
    let body = body.read(api.limits()).await?;
    let draft = DraftBody::read(&body)?.into_draft();
    let condition = IfMatch::of(request.headers());
    let expected = expected_revision(&api, &actor, id, condition).await?;
    let outcome = api
        .update_workflow()
        .replace(&actor, id, draft, expected)
        .await?;
    let workflow = written(outcome, |now| Some(now.revision))?;
    workflow_response(HttpResponse::Ok(), &workflow)
}
