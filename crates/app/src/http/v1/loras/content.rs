//! `GET /loras/{id}/content`

use actix_web::{HttpRequest, HttpResponse, web};

use crate::http::api::Api;
use crate::http::auth::ReadsLoras;
use crate::http::download::Download;
use crate::http::openapi::ProblemResponse;
use crate::http::openapi::parameters::FileParameters;
use crate::http::openapi::values::DigestTag;
use crate::http::path::PathSegments;
use crate::http::problem::{Problem, ProblemCode};
use crate::http::query::Query;

/// Reads a LoRA's bytes, or a range of them.
#[utoipa::path(get, path = "/api/v1/comfyui/loras/{id}/content", operation_id = "getLoraContent", tag = "loras",
    params(
        ("id" = Uuid, Path, description = "The LoRA's id."),
        FileParameters),
    responses(
        (status = 200, description = "The bytes.", content_type = "application/octet-stream",
            headers(("ETag" = inline(DigestTag), description = "The SHA-256 digest of all bytes."),
                ("Content-Disposition" = String, description = "What it is called."))),
        (status = 206, description = "Some of the bytes.", content_type = "application/octet-stream",
            headers(("ETag" = inline(DigestTag), description = "The SHA-256 digest of all bytes."),
                ("Content-Disposition" = String, description = "What it is called."),
                ("Content-Range" = String, description = "Which."))),
        (status = 304, description = "It is what one has.",
            headers(("ETag" = inline(DigestTag), description = "The SHA-256 digest of all bytes."))),
        (status = 409, response = ProblemResponse),
        (status = 416, response = ProblemResponse),
        (status = 502, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsLoras(actor): ReadsLoras,
    path: PathSegments,
    query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let ports = api.ports();
    let lora = ports.loras.get(&actor, path.id()?).await?;
    let lora = lora.ok_or_else(Problem::lora_not_found)?;
    let Some(content) = &lora.content else {
        return Err(Problem::new(
            ProblemCode::LoraNotReady,
            format!(
                "The LoRA is {}: its bytes are not there.",
                lora.status.as_str()
            ),
        ));
    };
    let download = Download {
        key: &lora.blob_key,
        size_bytes: content.file_size,
        sha256: content.hashes.sha256,
        content_type: "application/octet-stream",
        filename: lora.filename.as_str(),
    };
    download
        .respond(&request, ports.blobs.as_ref(), Problem::lora_not_found)
        .await
}
