//! `GET /tokens`

use actix_web::{HttpResponse, web};

use super::dto::TokenBody;
use crate::http::api::Api;
use crate::http::auth::SignedIn;
use crate::http::openapi::parameters::PageParameters;
use crate::http::page::{PageBody, page_response};
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Lists one's own personal tokens, newest first, without what to send.
#[utoipa::path(get, path = "/api/v1/comfyui/tokens", operation_id = "listTokens", tag = "tokens",
    params(PageParameters),
    responses(
        (status = 200, description = "A page.", body = PageBody<TokenBody<'static>>,
            headers(("Link" = Option<String>, description = "Where the next page is, if there is one (RFC 8288).")))))]
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
