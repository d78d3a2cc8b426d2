//! `POST /workflows/{id}/run`

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use crate::http::api::Api;
use crate::http::auth::AuthActor;
use crate::http::json::{JsonBody, Members};
use crate::http::openapi::ProblemResponse;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::v1::runs::dto::{RunBody, location};

/// How a workflow is to be run.
#[derive(Default, ToSchema)]
#[schema(as = RunRequest)]
pub(crate) struct RunRequestBody {
    /// Values for the prompt's inputs. A key is an address,
    /// `{node_id}.{input}`, or the bare name of an input that exactly one node
    /// has.
    #[schema(value_type = Object, required = false, example = json!({"seed": 7, "6.text": "a house by a lake"}))]
    input_params: Map<String, Value>,
}

impl RunRequestBody {
    fn read(body: &[u8]) -> Result<Self, Problem> {
        let mut members = Members::parse(body)?;
        let input_params = members.optional("input_params");
        members.finish()?;
        Ok(Self {
            input_params: input_params.unwrap_or_default(),
        })
    }
}

/// Runs a workflow of one's own, or a public one.
///
/// The run waits for a worker; read it, or wait for it, where `Location` says.
#[utoipa::path(post, path = "/api/v1/comfyui/workflows/{id}/run", operation_id = "runWorkflow", tag = "runs",
    params(("id" = Uuid, Path, description = "The workflow's id.")),
    request_body(content = RunRequestBody, content_type = "application/json"),
    responses(
        (status = 202, description = "The run waits for a worker.", body = RunBody<'static>,
            headers(("Location" = String, description = "Where the run is."))),
        (status = 400, response = ProblemResponse),
        (status = 401, response = ProblemResponse),
        (status = 404, response = ProblemResponse),
        (status = 422, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    AuthActor(actor): AuthActor,
    path: PathSegments,
    query: Query,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let id = path.id()?;
    let body = body.read_optional(api.limits()).await?;
    let request = body
        .map(|body| RunRequestBody::read(&body))
        .transpose()?
        .unwrap_or_default();
    let run = api
        .submit_run()
        .execute(&actor, id, request.input_params)
        .await?;
    Ok(HttpResponse::Accepted()
        .insert_header((LOCATION, location(run.id)))
        .json(RunBody::from(&run)))
}
