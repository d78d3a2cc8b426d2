//! `DELETE /inputs/{id}`

use actix_web::{HttpResponse, web};

use crate::http::api::Api;
use crate::http::auth::WritesRuns;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Deletes an input picture of one's own: its row at once, its bytes as soon as
/// no run needs them. Runs that wait for it still get it.
#[utoipa::path(delete, path = "/api/v1/comfyui/inputs/{id}", operation_id = "deleteInput", tag = "inputs",
    params(("id" = Uuid, Path, description = "The picture's id.")),
    responses((status = 204, description = "It is gone.")))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesRuns(actor): WritesRuns,
    path: PathSegments,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let ports = api.ports();
    let at = ports.clock.now();
    if ports.inputs.delete(&actor, path.id()?, at).await? {
        Ok(HttpResponse::NoContent().finish())
    } else {
        Err(Problem::input_not_found())
    }
}
