//! `POST /runs/{id}/retry`

use actix_web::{HttpResponse, web};
use atelier_application::runs::{OnceOnly, RetryRequest};
use atelier_domain::ids::RunId;
use atelier_domain::run::RunPriority;
use utoipa::ToSchema;

use super::dto::location;
use super::request::{RunAccepted, accepted, priority_member, timeout_member};
use crate::http::api::Api;
use crate::http::auth::WritesRuns;
use crate::http::idempotency::{MayBeRepeated, submission_response};
use crate::http::json::{JsonBody, Members};
use crate::http::openapi::parameters::RepeatableParameters;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::telemetry::current_trace_parent;

/// How a run is to be repeated.
#[derive(Default, ToSchema)]
#[schema(as = RetryRequest)]
#[serde(deny_unknown_fields)]
pub(crate) struct RetryRequestBody {
    /// Which of one's own runs are begun first, -10 to 10: the higher, the
    /// sooner. The earlier run's unless told.
    #[schema(value_type = Option<i8>, required = false, minimum = -10, maximum = 10)]
    priority: Option<RunPriority>,
    /// How long it may take, in seconds from the moment that it is first begun.
    /// As long as the earlier run unless told.
    #[schema(value_type = Option<u32>, required = false, minimum = 1, maximum = 2_592_000)]
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
        RepeatableParameters),
    request_body(content = Option<RetryRequestBody>, content_type = "application/json"),
    responses(RunAccepted))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesRuns(actor): WritesRuns,
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
        trace_parent: current_trace_parent(),
        once: once.map(|request| OnceOnly {
            request,
            answer: &accepted,
        }),
    };
    let submission = api.retry_run().execute(&actor, id, request).await?;
    Ok(submission_response(submission, &accepted))
}
