//! Pages on the wire.

use actix_web::HttpResponse;
use actix_web::http::header::LINK;
use atelier_domain::page::Page;
use serde::Serialize;
use utoipa::ToSchema;

use super::query::ListQuery;

/// One page of a list, newest first.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Page)]
pub(crate) struct PageBody<T> {
    /// The items.
    items: Vec<T>,
    /// What to send as `cursor` for the next page; null on the last one.
    next_cursor: Option<String>,
}

/// Answers with a page of the list that `list` describes, and says in `Link`
/// where the next one is (RFC 8288).
pub(crate) fn page_response<'a, T, U: Serialize>(
    query: &ListQuery,
    list: &str,
    page: &'a Page<T>,
    show: impl FnMut(&'a T) -> U,
) -> HttpResponse {
    let Page { items, next } = page;
    let items = items.iter().map(show).collect();
    items_response(query, items, next.map(|cursor| cursor.encode(list)))
}

/// The same, for a list whose cursors are of its own making.
pub(crate) fn items_response<U: Serialize>(
    query: &ListQuery,
    items: Vec<U>,
    next_cursor: Option<String>,
) -> HttpResponse {
    let mut response = HttpResponse::Ok();
    if let Some(cursor) = &next_cursor {
        let target = query.address_of(cursor);
        response.insert_header((LINK, format!("<{target}>; rel=\"next\"")));
    }
    response.json(PageBody { items, next_cursor })
}
