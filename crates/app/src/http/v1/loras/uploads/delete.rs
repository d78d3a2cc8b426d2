//! `DELETE /loras/uploads/{id}`

use actix_web::{HttpResponse, web};

use crate::http::api::Api;
use crate::http::auth::WritesLoras;
use crate::http::openapi::ProblemResponse;
use crate::http::openapi::values::TusVersion;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::tus::TusRequest;

/// Gives an upload up that does not have all its bytes.
#[utoipa::path(delete, path = "/api/v1/comfyui/loras/uploads/{id}", operation_id = "deleteLoraUpload", tag = "uploads",
    params(
        ("id" = Uuid, Path, description = "The upload's id."),
        ("Tus-Resumable" = inline(TusVersion), Header, description = "The version of the protocol.")),
    responses(
        (status = 204, description = "It is gone.",
            headers(("Tus-Resumable" = inline(TusVersion), description = "The version of the protocol."))),
        (status = 409, response = ProblemResponse),
        (status = 410, response = ProblemResponse),
        (status = 412, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesLoras(actor): WritesLoras,
    path: PathSegments,
    query: Query,
    request: TusRequest,
) -> Result<HttpResponse, Problem> {
    request.check_version()?;
    query.finish()?;
    let uploads = api.resumable_uploads();
    uploads.terminate(&actor, path.id()?).await?;
    Ok(HttpResponse::NoContent().finish())
}
