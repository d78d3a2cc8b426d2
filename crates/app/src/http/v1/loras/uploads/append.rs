//! `PATCH /loras/uploads/{id}`

use actix_web::{HttpResponse, web};

use super::UploadBytes;
use super::receiving::receive;
use crate::http::api::Api;
use crate::http::auth::WritesLoras;
use crate::http::openapi::ProblemResponse;
use crate::http::openapi::values::{HttpTime, TusVersion};
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::tus::{TusRequest, UPLOAD_EXPIRES, UPLOAD_OFFSET, http_date};

/// Adds bytes to an upload, from where it ends. Those of a request that breaks
/// off are kept as far as they came.
///
/// With the last ones the LoRA is on its way to being `ready`.
#[utoipa::path(patch, path = "/api/v1/comfyui/loras/uploads/{id}", operation_id = "appendToLoraUpload", tag = "uploads",
    params(
        ("id" = Uuid, Path, description = "The upload's id."),
        ("Tus-Resumable" = inline(TusVersion), Header, description = "The version of the protocol."),
        ("Upload-Offset" = u64, Header, description = "Where the bytes begin: where the upload ends.")),
    request_body(content = UploadBytes, content_type = "application/offset+octet-stream"),
    responses(
        (status = 204, description = "The bytes are kept.",
            headers(("Tus-Resumable" = inline(TusVersion), description = "The version of the protocol."),
                ("Upload-Offset" = u64, description = "How many bytes are there now."),
                ("Upload-Expires" = inline(HttpTime), description = "How long its next bytes are waited for."))),
        (status = 409, response = ProblemResponse),
        (status = 410, response = ProblemResponse),
        (status = 412, response = ProblemResponse),
        (status = 502, response = ProblemResponse),
        (status = 507, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesLoras(actor): WritesLoras,
    path: PathSegments,
    query: Query,
    request: TusRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    request.check_version()?;
    query.finish()?;
    let id = path.id()?;
    request.check_type()?;
    let offset = request.offset()?;
    let received = receive(&api, actor, id, offset, &request, payload).await?;
    let offset = received.whole()?;
    let expires_at = api.ports().clock.now() + api.limits().upload_expiry;
    Ok(HttpResponse::NoContent()
        .insert_header((UPLOAD_OFFSET, offset))
        .insert_header((UPLOAD_EXPIRES, http_date(expires_at)))
        .finish())
}
