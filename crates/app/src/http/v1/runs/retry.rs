//! `POST /runs/{id}/retry`

use actix_web::{HttpResponse, web};
use atelier_application::runs::{OnceOnly, RetryRequest};
use atelier_domain::ids::RunId;
use atelier_domain::run::RunPriority;
use utoipa::ToSchema;

use super::dto::{RunBody, location};
use super::request::{accepted, priority_member, timeout_member};
use crate::http::api::Api;
use crate::http::auth::AuthActor;
use crate::http::idempotency::{MayBeRepeated, submission_response};
use crate::http::json::{JsonBody, Members};
use crate::http::openapi::ProblemResponse;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// How a run is to be repeated.
#[derive(Default, ToSchema)]
#[schema(as = RetryRequest)]
pub(crate) struct RetryRequestBody {
    /// Which of one's own runs are begun first, -10 to 10: the higher, the
    /// sooner. The earlier run's unless told.
    #[schema(value_type = i8, required = false, minimum = -10, maximum = 10)]
    priority: Option<RunPriority>,
    /// How long it may take, in seconds from the moment that it is first begun.
    /// As long as the earlier run unless told.
    #[schema(value_type = u32, required = false, minimum = 1)]
    timeout_s: Option<u32>,
}

impl RetryRequestBody {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        let mut members = Members::parse(body)?;
        let priority = priority_member(&mut members);
        let timeout_s = timeout_member(&mut members);
        members.finish()?;
        Ok(Self {
            priority,
            timeout_s,
        })
    }
}

/// Does again what a run of one's own did, on the very same LoRAs.
///
/// The earlier run must be over. Its workflow may have been changed or deleted
/// since: the new run has the graph and the values of the earlier one.
#[utoipa::path(post, path = "/api/v1/comfyui/runs/{id}/retry", operation_id = "retryRun", tag = "runs",
    params(
        ("id" = Uuid, Path, description = "The earlier run's id."),
        ("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key and body within 24 hours, the request is not carried out again: it gets the same answer.")),
    request_body(content = RetryRequestBody, content_type = "application/json"),
    responses(
        (status = 202, description = "The new run waits for a worker.", body = RunBody<'static>,
            headers(("Location" = String, description = "Where the new run is."),
                ("Idempotent-Replayed" = String, description = "`true` where the request came before."))),
        (status = 400, response = ProblemResponse),
        (status = 401, response = ProblemResponse),
        (status = 404, response = ProblemResponse),
        (status = 409, response = ProblemResponse),
        (status = 422, response = ProblemResponse),
        (status = 429, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    AuthActor(actor): AuthActor,
    path: PathSegments,
    query: Query,
    once: MayBeRepeated,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let id: RunId = path.id()?;
    let body = body.read_optional(api.limits()).await?.unwrap_or_default();
    let once = once.request(format!("{}/retry", location(id)), &body)?;
    let request = if body.is_empty() {
        RetryRequestBody::default()
    } else {
        RetryRequestBody::read(&body)?
    };
    let request = RetryRequest {
        priority: request.priority,
        timeout_s: request.timeout_s,
        once: once.map(|request| OnceOnly {
            request,
            answer: &accepted,
        }),
    };
    let submission = api.retry_run().execute(&actor, id, request).await?;
    Ok(submission_response(submission, &accepted))
}
