//! `GET /runs/{id}`

use std::time::Duration;

use actix_web::{HttpResponse, web};
use atelier_domain::actor::Actor;
use atelier_domain::ids::RunId;
use atelier_domain::ports::RepoError;
use atelier_domain::run::Run;

use super::dto::RunBody;
use crate::http::api::Api;
use crate::http::auth::ReadsRuns;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::{Query, digits};

/// The longest wait, in seconds.
const MAX_WAIT: u64 = 60;

/// Reads a run of one's own, or waits until it is over.
#[utoipa::path(get, path = "/api/v1/comfyui/runs/{id}", operation_id = "getRun", tag = "runs",
    params(
        ("id" = Uuid, Path, description = "The run's id."),
        ("wait" = Option<u8>, Query, description = "Answer only when the run is over, or after so many seconds.", minimum = 0, maximum = 60)),
    responses(
        (status = 200, description = "The run as it stands.", body = RunBody<'static>)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsRuns(actor): ReadsRuns,
    path: PathSegments,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let id = path.id()?;
    let wait = query.value("wait", "a number of seconds from 0 to 60", |text| {
        digits(text).filter(|seconds| *seconds <= MAX_WAIT)
    });
    query.finish()?;
    let wait = Duration::from_secs(wait.unwrap_or_default());
    let run = read_or_wait(&api, &actor, id, wait).await?;
    let run = run.ok_or_else(Problem::run_not_found)?;
    Ok(HttpResponse::Ok().json(RunBody::from(&run)))
}

/// A server that stops answers at once: whoever waits would hold it up.
async fn read_or_wait(
    api: &Api,
    actor: &Actor,
    id: RunId,
    wait: Duration,
) -> Result<Option<Run>, RepoError> {
    tokio::select! {
        biased;
        run = api.await_run().execute(actor, id, wait) => run,
        () = api.stopping().cancelled() => api.ports().runs.get(actor, id).await,
    }
}
