//! `GET /workflows`

use actix_web::{HttpResponse, web};
use atelier_domain::text::{Name, Tags};
use atelier_domain::workflow::{WorkflowFilter, WorkflowScope};

use super::dto::SummaryBody;
use crate::http::api::Api;
use crate::http::auth::ReadsWorkflows;
use crate::http::openapi::parameters::PageParameters;
use crate::http::openapi::values::{SearchTag, SearchText, WorkflowScopeWord};
use crate::http::page::{PageBody, page_response};
use crate::http::problem::Problem;
use crate::http::query::Query;

/// Lists workflows, newest first, without their prompts.
#[utoipa::path(get, path = "/api/v1/comfyui/workflows", operation_id = "listWorkflows", tag = "workflows",
    params(
        ("scope" = inline(Option<WorkflowScopeWord>), Query, description = "Whose: `all` that one sees (the default), one's `own`, or the `public` ones."),
        ("tag" = inline(Option<SearchTag>), Query, description = "Only those with this tag."),
        ("q" = inline(Option<SearchText>), Query, description = "Only those whose name or description contains this text."),
        PageParameters),
    responses(
        (status = 200, description = "A page.", body = PageBody<SummaryBody<'static>>,
            headers(("Link" = Option<String>, description = "Where the next page is, if there is one (RFC 8288).")))))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsWorkflows(actor): ReadsWorkflows,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let filter = WorkflowFilter {
        scope: query
            .value("scope", "all, own or public", scope)
            .unwrap_or_default(),
        tag: query.text("tag", Tags::MAX_CHARACTERS),
        text: query.text("q", Name::MAX_CHARACTERS),
    };
    let query = query.finish_list()?;
    let list = filter.list_name();
    let page = query.page(&list)?;
    let page = api.ports().workflows.list(&actor, filter, page).await?;
    Ok(page_response(&query, &list, &page, SummaryBody::from))
}

fn scope(word: &str) -> Option<WorkflowScope> {
    [
        WorkflowScope::All,
        WorkflowScope::Own,
        WorkflowScope::Public,
    ]
    .into_iter()
    .find(|scope| scope.as_str() == word)
}
