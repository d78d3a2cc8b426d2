//! `GET /runs`

use actix_web::{HttpResponse, web};
use atelier_domain::run::RunFilter;

use super::dto::{RunBody, status_parameter};
use crate::http::api::Api;
use crate::http::auth::ReadsRuns;
use crate::http::openapi::parameters::PageParameters;
use crate::http::openapi::values::RunStatusWord;
use crate::http::page::{PageBody, page_response};
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Lists one's own runs, newest first.
#[utoipa::path(get, path = "/api/v1/comfyui/runs", operation_id = "listRuns", tag = "runs",
    params(
        ("status" = Option<RunStatusWord>, Query, description = "Only those that stand here."),
        ("workflow_id" = Option<Uuid>, Query, description = "Only those of this workflow."),
        PageParameters),
    responses(
        (status = 200, description = "A page.", body = PageBody<RunBody<'static>>,
            headers(("Link" = Option<String>, description = "Where the next page is, if there is one (RFC 8288).")))))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsRuns(actor): ReadsRuns,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let filter = RunFilter {
        status: status_parameter(&mut query),
        workflow_id: query.value("workflow_id", "a UUID", |text| text.parse().ok()),
    };
    let query = query.finish_list()?;
    let list = filter.list_name();
    let page = query.page(&list)?;
    let page = api.ports().runs.list(&actor, filter, page).await?;
    Ok(page_response(&query, &list, &page, RunBody::from))
}
