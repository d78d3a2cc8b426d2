//! `POST /workflows`

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};

use super::dto::{DraftBody, WorkflowBody, location, workflow_response};
use crate::http::api::Api;
use crate::http::auth::WritesWorkflows;
use crate::http::json::JsonBody;
use crate::http::openapi::values::RevisionTag;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Stores a workflow.
#[utoipa::path(post, path = "/api/v1/comfyui/workflows", operation_id = "createWorkflow", tag = "workflows",
    request_body(content = DraftBody, content_type = "application/json"),
    responses(
        (status = 201, description = "It is stored.", body = WorkflowBody,
            headers(("Location" = String, description = "Where it is."), ("ETag" = inline(RevisionTag), description = "Its revision.")))))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesWorkflows(actor): WritesWorkflows,
    query: Query,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let body = body.read(api.limits()).await?;
    let draft = DraftBody::read(&body)?.into_draft();
    let workflow = api.create_workflow().execute(&actor, draft).await?;
    let mut response = HttpResponse::Created();
    response.insert_header((LOCATION, location(workflow.id)));
    workflow_response(response, &workflow)
}
