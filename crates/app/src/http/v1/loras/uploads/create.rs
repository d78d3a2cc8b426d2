//! `POST /loras/uploads`

use actix_web::http::header::LOCATION;
use actix_web::{HttpResponse, web};
use atelier_domain::ports::ResumableUpload;

use super::metadata::Metadata;
use super::receiving::receive;
use super::{UploadBytes, location};
use crate::http::api::Api;
use crate::http::auth::WritesLoras;
use crate::http::json::content_length;
use crate::http::openapi::ProblemResponse;
use crate::http::openapi::values::{HttpTime, TusVersion};
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::tus::{TusRequest, UPLOAD_EXPIRES, UPLOAD_OFFSET, http_date};

/// Begins a LoRA that comes in pieces, as tus 1.0.0 has it.
///
/// Its first bytes may come with the request. Send the rest with `PATCH` to
/// where `Location` says; after a break, ask there with `HEAD` how far it is. The
/// upload's id is the LoRA's: once all bytes are there, they are checked, and the
/// LoRA becomes `ready` or `failed`.
#[utoipa::path(post, path = "/api/v1/comfyui/loras/uploads", operation_id = "createLoraUpload", tag = "uploads",
    params(
        ("Tus-Resumable" = inline(TusVersion), Header, description = "The version of the protocol."),
        ("Upload-Length" = u64, Header, description = "The file's size in bytes."),
        ("Upload-Metadata" = String, Header, description = "Pairs of a key and a value in base64, with commas between: `filename`, and if you like `name`, `description`, `tags` (with commas between) and `replace` (`true` for a new version of the LoRA of that filename).")),
    request_body(content = Option<UploadBytes>, content_type = "application/offset+octet-stream"),
    responses(
        (status = 201, description = "The bytes may come.",
            headers(("Location" = String, description = "Where the upload is."),
                ("Tus-Resumable" = inline(TusVersion), description = "The version of the protocol."),
                ("Upload-Offset" = u64, description = "How many bytes are there."),
                ("Upload-Expires" = inline(HttpTime), description = "How long its next bytes are waited for."))),
        (status = 409, response = ProblemResponse),
        (status = 412, response = ProblemResponse),
        (status = 502, response = ProblemResponse),
        (status = 507, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesLoras(actor): WritesLoras,
    query: Query,
    request: TusRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    request.check_version()?;
    query.finish()?;
    let length = request.length()?;
    let brings_bytes = request.brings_bytes();
    if !brings_bytes && content_length(request.headers()).is_some_and(|bytes| bytes > 0) {
        request.check_type()?;
    }
    let new = Metadata::read(request.headers()).into_upload(length)?;
    let upload = api.resumable_uploads().create(&actor, new).await?;
    let mut offset = upload.offset;
    if brings_bytes {
        // However many came: the client asks, and goes on from there.
        let received = receive(&api, actor, upload.lora_id, 0, &request, payload).await?;
        offset = received.offset;
    }
    Ok(created(&upload, offset))
}

fn created(upload: &ResumableUpload, offset: u64) -> HttpResponse {
    HttpResponse::Created()
        .insert_header((LOCATION, location(upload.lora_id)))
        .insert_header((UPLOAD_OFFSET, offset))
        .insert_header((UPLOAD_EXPIRES, http_date(upload.expires_at)))
        .finish()
}
