//! `POST /tokens`

use actix_web::http::header::{CACHE_CONTROL, LOCATION};
use actix_web::{HttpResponse, web};

use super::dto::{DraftBody, IssuedTokenBody};
use crate::http::PREFIX;
use crate::http::api::Api;
use crate::http::auth::SignedIn;
use crate::http::json::JsonBody;
use crate::http::openapi::ProblemResponse;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Makes a personal token for scripts. The answer is the only place where it can be read.
#[utoipa::path(post, path = "/api/v1/comfyui/tokens", operation_id = "createToken", tag = "tokens",
    request_body(content = DraftBody, content_type = "application/json"),
    responses(
        (status = 201, description = "It is good from now on.", body = IssuedTokenBody<'static>,
            headers(("Location" = String, description = "What to delete to revoke it."))),
        (status = 409, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    SignedIn(actor): SignedIn,
    query: Query,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let body = body.read(api.limits()).await?;
    let issued = api
        .create_token()
        .execute(&actor, DraftBody::read(&body)?)
        .await?;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("{PREFIX}/tokens/{}", issued.token.id)))
        .insert_header((CACHE_CONTROL, "no-store"))
        .json(IssuedTokenBody::from(&issued)))
}
