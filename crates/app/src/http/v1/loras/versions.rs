//! `GET /loras/{id}/versions`

use actix_web::{HttpResponse, web};

use super::dto::VersionsBody;
use crate::http::api::Api;
use crate::http::auth::ReadsLoras;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Reads all versions of a LoRA's filename, the latest first.
///
/// Workflows name a certain one as `filename@version`.
#[utoipa::path(get, path = "/api/v1/comfyui/loras/{id}/versions", operation_id = "listLoraVersions", tag = "loras",
    params(("id" = Uuid, Path, description = "The id of any version.")),
    responses(
        (status = 200, description = "The versions.", body = VersionsBody<'static>)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsLoras(actor): ReadsLoras,
    path: PathSegments,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let versions = api.ports().loras.versions(&actor, path.id()?).await?;
    let versions = versions.ok_or_else(Problem::lora_not_found)?;
    Ok(HttpResponse::Ok().json(VersionsBody::from(versions.as_slice())))
}
