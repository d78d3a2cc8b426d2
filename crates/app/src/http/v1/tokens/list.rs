//! `GET /tokens`

use actix_web::{HttpResponse, web};

use super::dto::TokenBody;
use crate::http::api::Api;
use crate::http::auth::SignedIn;
use crate::http::openapi::ProblemResponse;
use crate::http::page::{PageBody, page_response};
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Lists one's own personal tokens, newest first, without what to send.
#[utoipa::path(get, path = "/api/v1/comfyui/tokens", operation_id = "listTokens", tag = "tokens",
    params(
        ("limit" = Option<u16>, Query, description = "How many: 1 to 200, 50 unless told.", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.")),
    responses(
        (status = 200, description = "A page.", body = PageBody<TokenBody<'static>>,
            headers(("Link" = String, description = "Where the next page is, if there is one."))),
        (status = 400, response = ProblemResponse),
        (status = 401, response = ProblemResponse),
        (status = 403, response = ProblemResponse),
        (status = 422, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    SignedIn(actor): SignedIn,
    query: Query,
) -> Result<HttpResponse, Problem> {
    const LIST: &str = "tokens";
    let query = query.finish_list()?;
    let page = query.page(LIST)?;
    let page = api.ports().tokens.list(&actor, page).await?;
    Ok(page_response(&query, LIST, &page, TokenBody::from))
}
