//! `POST /workflows/{id}/run`

use actix_web::{HttpResponse, web};
use atelier_application::runs::{OnceOnly, SubmitRequest};
use atelier_domain::ids::WorkflowId;
use atelier_domain::run::RunPriority;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::http::PREFIX;
use crate::http::api::Api;
use crate::http::auth::WritesRuns;
use crate::http::idempotency::{MayBeRepeated, submission_response};
use crate::http::json::{JsonBody, Members};
use crate::http::openapi::parameters::RepeatableParameters;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::v1::runs::request::{RunAccepted, accepted, priority_member, timeout_member};
use crate::telemetry::current_trace_parent;

/// How a workflow is to be run.
#[derive(Default, ToSchema)]
#[schema(as = RunRequest)]
#[serde(deny_unknown_fields)]
pub(crate) struct RunRequestBody {
    /// Values for the prompt's inputs. A key is an address,
    /// `{node_id}.{input}`, or the bare name of an input that exactly one node
    /// has.
    #[schema(value_type = Option<Object>, required = false, example = json!({"seed": 7, "6.text": "a house by a lake"}))]
    input_params: Map<String, Value>,
    /// Which of one's own runs are begun first, -10 to 10: the higher, the
    /// sooner. 0 unless told.
    #[schema(value_type = Option<i8>, required = false, minimum = -10, maximum = 10)]
    priority: RunPriority,
    /// How long it may take, in seconds from the moment that it is first begun.
    #[schema(value_type = Option<u32>, required = false, minimum = 1, maximum = 2_592_000)]
    timeout_s: Option<u32>,
}

impl RunRequestBody {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        let mut members = Members::parse(body)?;
        let input_params = members.optional("input_params");
        let priority = priority_member(&mut members);
        let timeout_s = timeout_member(&mut members);
        members.finish()?;
        Ok(Self {
            input_params: input_params.unwrap_or_default(),
            priority: priority.unwrap_or_default(),
            timeout_s,
        })
    }
}

/// Runs a workflow of one's own, or a public one.
///
/// The run waits for a worker; read it, wait for it, or follow its events,
/// where `Location` says.
#[utoipa::path(post, path = "/api/v1/comfyui/workflows/{id}/run", operation_id = "runWorkflow", tag = "runs",
    params(
        ("id" = Uuid, Path, description = "The workflow's id."),
        RepeatableParameters),
    request_body(content = Option<RunRequestBody>, content_type = "application/json"),
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
    let id: WorkflowId = path.id()?;
    let body = body.read_optional(api.limits()).await?.unwrap_or_default();
    let once = once.request(format!("{PREFIX}/workflows/{id}/run"), &body)?;
    let request = if body.is_empty() {
        RunRequestBody::default()
    } else {
        RunRequestBody::read(&body)?
    };
    let request = SubmitRequest {
        input_params: request.input_params,
        priority: request.priority,
        timeout_s: request.timeout_s,
        trace_parent: current_trace_parent(),
        once: once.map(|request| OnceOnly {
            request,
            answer: &accepted,
        }),
    };
    let submission = api.submit_run().execute(&actor, id, request).await?;
    Ok(submission_response(submission, &accepted))
}
