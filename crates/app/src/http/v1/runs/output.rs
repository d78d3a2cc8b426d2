//! `GET /runs/{id}/outputs/{index}`

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

/// Reads an output of a run of one's own, or a range of its bytes.
#[utoipa::path(get, path = "/api/v1/comfyui/runs/{id}/outputs/{index}", operation_id = "getRunOutput", tag = "runs",
    params(
        ("id" = Uuid, Path, description = "The run's id."),
        ("index" = u32, Path, description = "The output's place among the run's outputs, from 0.", maximum = 4_294_967_295_u32),
        FileParameters),
    responses(
        (status = 200, description = "The bytes.", content_type = "*/*",
            headers(("ETag" = inline(DigestTag), description = "The SHA-256 digest of all bytes."),
                ("Content-Disposition" = String, description = "What it is called."))),
        (status = 206, description = "Some of the bytes.", content_type = "*/*",
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
    let (id, index) = (path.id()?, path.index()?);
    let ports = api.ports();
    let run = ports
        .runs
        .get(&actor, id)
        .await?
        .ok_or_else(Problem::run_not_found)?;
    let output = run
        .outputs
        .iter()
        .find(|output| output.index == index)
        .ok_or_else(Problem::output_not_found)?;
    let download = Download {
        key: &output.blob_key,
        size_bytes: output.size_bytes,
        sha256: output.sha256,
        content_type: &output.content_type,
        filename: &output.filename,
    };
    download
        .respond(&request, ports.blobs.as_ref(), Problem::output_not_found)
        .await
}
