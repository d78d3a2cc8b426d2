//! `DELETE /loras/{id}`

use actix_web::{HttpResponse, web};
use atelier_domain::ports::WriteOutcome;

use crate::http::api::Api;
use crate::http::auth::WritesLoras;
use crate::http::openapi::ProblemResponse;
use crate::http::path::PathSegments;
use crate::http::problem::{Problem, ProblemCode};
use crate::http::query::Query;

/// Deletes a LoRA of one's own: its row at once, its bytes and the copies on
/// the backends as soon as no run needs them.
///
/// The latest version takes all earlier ones with it; an earlier one goes alone.
/// One whose bytes are on their way is no longer waited for.
#[utoipa::path(delete, path = "/api/v1/comfyui/loras/{id}", operation_id = "deleteLora", tag = "loras",
    params(("id" = Uuid, Path, description = "The LoRA's id.")),
    responses(
        (status = 204, description = "It is gone."),
        (status = 409, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesLoras(actor): WritesLoras,
    path: PathSegments,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    match api.ports().loras.delete(&actor, path.id()?).await? {
        WriteOutcome::Done(()) => Ok(HttpResponse::NoContent().finish()),
        WriteOutcome::NotFound | WriteOutcome::NotYours => Err(Problem::lora_not_found()),
        WriteOutcome::Stale(()) => Err(Problem::new(
            ProblemCode::Conflict,
            "The LoRA cannot be deleted as it stands; try again.",
        )),
    }
}
