//! `GET /runs`

use actix_web::{HttpResponse, web};
use atelier_domain::run::RunFilter;

use super::dto::{RunBody, status_parameter};
use crate::http::api::Api;
use crate::http::auth::AuthActor;
use crate::http::openapi::ProblemResponse;
use crate::http::page::{PageBody, page_response};
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Lists one's own runs, newest first.
#[utoipa::path(get, path = "/api/v1/comfyui/runs", operation_id = "listRuns", tag = "runs",
    params(
        ("status" = Option<String>, Query, description = "Only those that stand here: `pending`, `running`, `completed`, `failed`, `cancelled`."),
        ("workflow_id" = Option<Uuid>, Query, description = "Only those of this workflow."),
        ("limit" = Option<u16>, Query, description = "How many: 1 to 200, 50 unless told.", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.")),
    responses(
        (status = 200, description = "A page.", body = PageBody<RunBody<'static>>,
            headers(("Link" = String, description = "Where the next page is, if there is one."))),
        (status = 400, response = ProblemResponse),
        (status = 401, response = ProblemResponse),
        (status = 422, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    AuthActor(actor): AuthActor,
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
