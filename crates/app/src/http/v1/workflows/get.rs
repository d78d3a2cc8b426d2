//! `GET /workflows/{id}`

use actix_web::http::header::{CACHE_CONTROL, ETAG};
use actix_web::{HttpRequest, HttpResponse, web};

use super::dto::{WorkflowBody, workflow_response};
use crate::http::api::Api;
use crate::http::auth::ReadsWorkflows;
use crate::http::etag::{none_match_hits, revision_tag};
use crate::http::openapi::values::RevisionTag;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Reads a workflow of one's own, or a public one.
#[utoipa::path(get, path = "/api/v1/comfyui/workflows/{id}", operation_id = "getWorkflow", tag = "workflows",
    params(
        ("id" = Uuid, Path, description = "The workflow's id."),
        ("If-None-Match" = Option<String>, Header, description = "The ETag that one has.")),
    responses(
        (status = 200, description = "The workflow.", body = WorkflowBody,
            headers(("ETag" = inline(RevisionTag), description = "Its revision."))),
        (status = 304, description = "It is what one has.",
            headers(("ETag" = inline(RevisionTag), description = "Its revision.")))))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsWorkflows(actor): ReadsWorkflows,
    path: PathSegments,
    query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let workflow = api
        .ports()
        .workflows
        .get(&actor, path.id()?)
        .await?
        .ok_or_else(Problem::workflow_not_found)?;
    let tag = revision_tag(workflow.revision);
    if none_match_hits(request.headers(), &tag) {
        return Ok(HttpResponse::NotModified()
            .insert_header((ETAG, tag))
            .insert_header((CACHE_CONTROL, "private, no-cache"))
            .finish());
    }
    workflow_response(HttpResponse::Ok(), &workflow)
}
