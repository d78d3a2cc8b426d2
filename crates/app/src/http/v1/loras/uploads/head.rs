//! `HEAD /loras/uploads/{id}`

use actix_web::http::header::CACHE_CONTROL;
use actix_web::{HttpResponse, web};

use crate::http::api::Api;
use crate::http::auth::WritesLoras;
use crate::http::openapi::ProblemResponse;
use crate::http::openapi::values::{HttpTime, TusVersion};
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::tus::{
    TusRequest, UPLOAD_EXPIRES, UPLOAD_LENGTH, UPLOAD_METADATA, UPLOAD_OFFSET, http_date,
};

/// Says how many bytes of an upload are there.
#[utoipa::path(head, path = "/api/v1/comfyui/loras/uploads/{id}", operation_id = "askLoraUpload", tag = "uploads",
    params(
        ("id" = Uuid, Path, description = "The upload's id."),
        ("Tus-Resumable" = inline(TusVersion), Header, description = "The version of the protocol.")),
    responses(
        (status = 204, description = "The headers say it.",
            headers(("Tus-Resumable" = inline(TusVersion), description = "The version of the protocol."),
                ("Upload-Offset" = u64, description = "How many bytes are there."),
                ("Upload-Length" = u64, description = "How many there will be."),
                ("Upload-Metadata" = Option<String>, description = "What was said of it."),
                ("Upload-Expires" = inline(Option<HttpTime>), description = "How long its next bytes are waited for; not there once all have come."))),
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
    let upload = api.resumable_uploads().get(&actor, path.id()?).await?;
    let mut response = HttpResponse::NoContent();
    response
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((UPLOAD_OFFSET, upload.offset))
        .insert_header((UPLOAD_LENGTH, upload.length));
    if !upload.metadata.is_empty() {
        response.insert_header((UPLOAD_METADATA, upload.metadata));
    }
    if upload.offset < upload.length {
        response.insert_header((UPLOAD_EXPIRES, http_date(upload.expires_at)));
    }
    Ok(response.finish())
}
