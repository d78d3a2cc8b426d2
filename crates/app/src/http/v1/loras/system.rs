//! `GET /loras/system`

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::{HttpResponse, web};
use atelier_application::catalogue::CatalogueCache;
use atelier_domain::page::CursorError;
use atelier_domain::text::Name;
use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;
use utoipa::ToSchema;

use crate::http::api::Api;
use crate::http::auth::ReadsLoras;
use crate::http::openapi::parameters::PageParameters;
use crate::http::openapi::values::SearchText;
use crate::http::page::{PageBody, items_response};
use crate::http::problem::Problem;
use crate::http::query::Query;

/// What is known of this age is asked for again.
const FRESH: Duration = Duration::from_secs(10);

/// How long the backends are waited for; then what was known before is told.
const PATIENCE: Duration = Duration::from_secs(4);

/// How much of the list's digest a cursor holds.
const LIST_BYTES: usize = 4;

/// A LoRA that ComfyUI itself offers.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SystemLora)]
pub(crate) struct SystemLoraBody {
    /// What workflows call it.
    #[schema(example = "styles/ink.safetensors")]
    name: String,
    /// The backends that have it.
    backends: Vec<String>,
}

/// Lists the LoRAs that ComfyUI offers by itself, by their names. Nobody's own
/// are among them.
#[utoipa::path(get, path = "/api/v1/comfyui/loras/system", operation_id = "listSystemLoras", tag = "loras",
    params(
        ("q" = inline(Option<SearchText>), Query, description = "Only those whose name contains this text."),
        PageParameters),
    responses(
        (status = 200, description = "A page.", body = PageBody<SystemLoraBody>,
            headers(("Link" = Option<String>, description = "Where the next page is, if there is one (RFC 8288).")))))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsLoras(_anybody): ReadsLoras,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let text = query.text("q", Name::MAX_CHARACTERS);
    let query = query.finish_list()?;
    let list = format!("loras/system?q={text:?}");
    let after = query.cursor_by(|cursor| decode(cursor, &list))?;
    let catalogue = &api.ports().catalogue;
    // Whoever is late keeps what was known of it.
    drop(timeout(PATIENCE, catalogue.refresh_if_older_than(FRESH)).await);
    let known = offered(catalogue, text.as_deref())
        .ok_or_else(|| Problem::unavailable("No ComfyUI has told yet what it offers."))?;
    let mut rest = known
        .into_iter()
        .filter(|(name, _)| after.as_ref().is_none_or(|after| name > after))
        .map(|(name, backends)| SystemLoraBody { name, backends });
    let items: Vec<_> = rest.by_ref().take(query.limit()).collect();
    let next = match (items.last(), rest.next()) {
        (Some(last), Some(_more)) => Some(encode(&last.name, &list)),
        _ => None,
    };
    Ok(items_response(&query, items, next))
}

/// What the backends offer; `None` before any of them has told.
fn offered(
    catalogue: &CatalogueCache,
    text: Option<&str>,
) -> Option<BTreeMap<String, Vec<String>>> {
    let wanted = text.map(str::to_lowercase);
    let mut is_known = false;
    let mut offered = BTreeMap::<String, Vec<String>>::new();
    for (backend, known) in catalogue.each() {
        let Some(known) = known else { continue };
        is_known = true;
        for name in &known.files {
            let is_wanted = |wanted: &String| name.to_lowercase().contains(wanted);
            if wanted.as_ref().is_none_or(is_wanted) {
                let backends = offered.entry(name.clone()).or_default();
                backends.push(backend.to_owned());
            }
        }
    }
    is_known.then_some(offered)
}

/// The place after a name, as opaque text for one list.
fn encode(name: &str, list: &str) -> String {
    let mut bytes = mark_of(list).to_vec();
    bytes.extend_from_slice(name.as_bytes());
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

fn decode(text: &str, list: &str) -> Result<String, CursorError> {
    let bytes = BASE64_URL_SAFE_NO_PAD
        .decode(text)
        .map_err(|_not_base64| CursorError::Malformed)?;
    let (mark, name) = bytes
        .split_first_chunk::<LIST_BYTES>()
        .ok_or(CursorError::Malformed)?;
    let name = std::str::from_utf8(name).map_err(|_not_utf8| CursorError::Malformed)?;
    if *mark == mark_of(list) {
        Ok(name.to_owned())
    } else {
        Err(CursorError::OtherList)
    }
}

/// Tells lists apart; it protects nothing.
fn mark_of(list: &str) -> [u8; LIST_BYTES] {
    let [first, second, third, fourth, ..] = <[u8; 32]>::from(Sha256::digest(list));
    [first, second, third, fourth]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was_for_its_own_list_alone() {
        let cursor = encode("styles/ünk.safetensors", "a");

        assert_eq!(
            decode(&cursor, "a"),
            Ok("styles/ünk.safetensors".to_owned())
        );
        assert_eq!(decode(&cursor, "b"), Err(CursorError::OtherList));
        for text in ["", "AAA", "%", "\u{fc}"] {
            assert_eq!(decode(text, "a"), Err(CursorError::Malformed), "{text}");
        }
    }
}
