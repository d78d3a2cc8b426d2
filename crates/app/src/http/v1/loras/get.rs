//! `GET /loras/{id}`

use actix_web::{HttpResponse, web};

use super::dto::LoraBody;
use crate::http::api::Api;
use crate::http::auth::ReadsLoras;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Reads a LoRA of one's own.
#[utoipa::path(get, path = "/api/v1/comfyui/loras/{id}", operation_id = "getLora", tag = "loras",
    params(("id" = Uuid, Path, description = "The LoRA's id.")),
    responses(
        (status = 200, description = "The LoRA.", body = LoraBody<'static>)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsLoras(actor): ReadsLoras,
    path: PathSegments,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let lora = api.ports().loras.get(&actor, path.id()?).await?;
    let lora = lora.ok_or_else(Problem::lora_not_found)?;
    Ok(HttpResponse::Ok().json(LoraBody::from(&lora)))
}
