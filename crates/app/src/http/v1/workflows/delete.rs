//! `DELETE /workflows/{id}`

use actix_web::{HttpRequest, HttpResponse, web};

use super::precondition::{expected_revision, written};
use crate::http::api::Api;
use crate::http::auth::WritesWorkflows;
use crate::http::etag::IfMatch;
use crate::http::openapi::ProblemResponse;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Deletes a workflow of one's own; its runs stay.
#[utoipa::path(delete, path = "/api/v1/comfyui/workflows/{id}", operation_id = "deleteWorkflow", tag = "workflows",
    params(
        ("id" = Uuid, Path, description = "The workflow's id."),
        ("If-Match" = Option<String>, Header, description = "The ETag that it must have.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 412, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesWorkflows(actor): WritesWorkflows,
    path: PathSegments,
    query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let id = path.id()?;
    let condition = IfMatch::of(request.headers());
    let expected = expected_revision(&api, &actor, id, condition).await?;
    let outcome = api.ports().workflows.delete(&actor, id, expected).await?;
    written(outcome, |()| None)?;
    Ok(HttpResponse::NoContent().finish())
}
