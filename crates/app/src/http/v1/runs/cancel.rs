//! `POST /runs/{id}/cancel`

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use atelier_domain::ports::WriteOutcome;
use atelier_domain::run::{Run, RunStatus};

use super::dto::{RunBody, location};
use crate::http::api::Api;
use crate::http::auth::WritesRuns;
use crate::http::openapi::ProblemResponse;
use crate::http::path::PathSegments;
use crate::http::problem::{Problem, ProblemCode};
use crate::http::query::Query;

/// Cancels a run of one's own: one that waits at once, one that is running as
/// soon as its worker notices. Cancelling twice changes nothing.
#[utoipa::path(post, path = "/api/v1/comfyui/runs/{id}/cancel", operation_id = "cancelRun", tag = "runs",
    params(("id" = Uuid, Path, description = "The run's id.")),
    responses(
        (status = 202, description = "It will be cancelled, or is.", body = RunBody<'static>,
            headers(("Location" = String, description = "Where the run is."))),
        (status = 409, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesRuns(actor): WritesRuns,
    path: PathSegments,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let ports = api.ports();
    let outcome = ports
        .runs
        .request_cancel(&actor, path.id()?, ports.clock.now())
        .await?;
    match outcome {
        WriteOutcome::Done(run) => Ok(accepted(&run)),
        WriteOutcome::Stale(run) if run.status == RunStatus::Cancelled => Ok(accepted(&run)),
        WriteOutcome::NotFound | WriteOutcome::NotYours => Err(Problem::run_not_found()),
        WriteOutcome::Stale(run) => Err(Problem::new(
            ProblemCode::RunAlreadyFinished,
            format!("The run is {} and stays so.", run.status.as_str()),
        )),
    }
}

fn accepted(run: &Run) -> HttpResponse {
    HttpResponse::Accepted()
        .insert_header((LOCATION, location(run.id)))
        .json(RunBody::from(run))
}
