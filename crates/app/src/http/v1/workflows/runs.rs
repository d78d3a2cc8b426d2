//! `GET /workflows/{id}/runs`

use actix_web::{HttpResponse, web};
use atelier_domain::run::RunFilter;

use crate::http::api::Api;
use crate::http::auth::ReadsRuns;
use crate::http::openapi::parameters::PageParameters;
use crate::http::openapi::values::RunStatusWord;
use crate::http::page::{PageBody, page_response};
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::v1::runs::dto::{RunBody, status_parameter};

/// Lists one's own runs of a workflow, newest first.
#[utoipa::path(get, path = "/api/v1/comfyui/workflows/{id}/runs", operation_id = "listRunsOfWorkflow", tag = "runs",
    params(
        ("id" = Uuid, Path, description = "The workflow's id."),
        ("status" = Option<RunStatusWord>, Query, description = "Only those that stand here."),
        PageParameters),
    responses(
        (status = 200, description = "A page.", body = PageBody<RunBody<'static>>,
            headers(("Link" = Option<String>, description = "Where the next page is, if there is one (RFC 8288).")))))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsRuns(actor): ReadsRuns,
    path: PathSegments,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let id = path.id()?;
    let filter = RunFilter {
        status: status_parameter(&mut query),
        workflow_id: Some(id),
    };
    let query = query.finish_list()?;
    let list = filter.list_name();
    let page = query.page(&list)?;
    let ports = api.ports();
    let page = ports.runs.list(&actor, filter, page).await?;
    // Somebody with runs has seen the workflow; anybody else must see it now.
    if page.items.is_empty() && ports.workflows.get(&actor, id).await?.is_none() {
        return Err(Problem::workflow_not_found());
    }
    Ok(page_response(&query, &list, &page, RunBody::from))
}
