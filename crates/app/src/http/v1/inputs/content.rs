//! `GET /inputs/{id}/content`

use actix_web::{HttpRequest, HttpResponse, web};

use crate::http::api::Api;
use crate::http::auth::ReadsRuns;
use crate::http::download::Download;
use crate::http::openapi::ProblemResponse;
use crate::http::openapi::parameters::FileParameters;
use crate::http::openapi::values::DigestTag;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Reads an input picture's bytes, or a range of them.
#[utoipa::path(get, path = "/api/v1/comfyui/inputs/{id}/content", operation_id = "getInputContent", tag = "inputs",
    params(
        ("id" = Uuid, Path, description = "The picture's id."),
        FileParameters),
    responses(
        (status = 200, description = "The bytes.", content_type = "image/*",
            headers(("ETag" = inline(DigestTag), description = "The SHA-256 digest of all bytes."),
                ("Content-Disposition" = String, description = "What it is called."))),
        (status = 206, description = "Some of the bytes.", content_type = "image/*",
            headers(("ETag" = inline(DigestTag), description = "The SHA-256 digest of all bytes."),
                ("Content-Disposition" = String, description = "What it is called."),
                ("Content-Range" = String, description = "Which."))),
        (status = 304, description = "It is what one has.",
            headers(("ETag" = inline(DigestTag), description = "The SHA-256 digest of all bytes."))),
        (status = 416, response = ProblemResponse),
        (status = 502, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsRuns(actor): ReadsRuns,
    path: PathSegments,
    query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let ports = api.ports();
    let input = ports.inputs.get(&actor, path.id()?).await?;
    let input = input.ok_or_else(Problem::input_not_found)?;
    let download = Download {
        key: &input.blob_key,
        size_bytes: input.size_bytes,
        sha256: input.sha256,
        content_type: input.format.content_type(),
        filename: input.filename.as_str(),
    };
    download
        .respond(&request, ports.blobs.as_ref(), Problem::input_not_found)
        .await
}
