//! `GET /inputs/{id}`

use actix_web::{HttpResponse, web};

use super::dto::InputBody;
use crate::http::api::Api;
use crate::http::auth::ReadsRuns;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Reads what is known of an input picture of one's own.
#[utoipa::path(get, path = "/api/v1/comfyui/inputs/{id}", operation_id = "getInput", tag = "inputs",
    params(("id" = Uuid, Path, description = "The picture's id.")),
    responses((status = 200, description = "The picture.", body = InputBody<'static>)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsRuns(actor): ReadsRuns,
    path: PathSegments,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let input = api.ports().inputs.get(&actor, path.id()?).await?;
    let input = input.ok_or_else(Problem::input_not_found)?;
    Ok(HttpResponse::Ok().json(InputBody::from(&input)))
}
