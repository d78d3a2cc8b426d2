//! `GET /inputs`

use actix_web::{HttpResponse, web};

use super::dto::InputBody;
use crate::http::api::Api;
use crate::http::auth::ReadsRuns;
use crate::http::openapi::parameters::PageParameters;
use crate::http::page::{PageBody, page_response};
use crate::http::problem::Problem;
use crate::http::query::Query;

/// The one list of pictures there is, for its cursors.
const LIST: &str = "inputs";

/// Lists one's own input pictures, newest first.
#[utoipa::path(get, path = "/api/v1/comfyui/inputs", operation_id = "listInputs", tag = "inputs",
    params(PageParameters),
    responses(
        (status = 200, description = "A page.", body = PageBody<InputBody<'static>>,
            headers(("Link" = Option<String>, description = "Where the next page is, if there is one (RFC 8288).")))))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsRuns(actor): ReadsRuns,
    query: Query,
) -> Result<HttpResponse, Problem> {
    let query = query.finish_list()?;
    let page = query.page(LIST)?;
    let page = api.ports().inputs.list(&actor, page).await?;
    Ok(page_response(&query, LIST, &page, InputBody::from))
}
