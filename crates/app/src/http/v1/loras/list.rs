//! `GET /loras`

use actix_web::{HttpResponse, web};
use atelier_domain::lora::{BaseModelFamily, BaseModelFilter, LoraFilter, LoraHash, LoraStatus};
use atelier_domain::text::{Name, Tags};

use super::dto::LoraBody;
use crate::http::api::Api;
use crate::http::auth::ReadsLoras;
use crate::http::openapi::parameters::PageParameters;
use crate::http::openapi::values::{
    BaseModelSearch, LoraHashText, LoraStatusWord, SearchTag, SearchText,
};
use crate::http::page::{PageBody, page_response};
use crate::http::problem::Problem;
use crate::http::query::Query;

/// What `hash` may be.
const HASHES: &str =
    "a hash in hexadecimal digits: 10 of an AutoV2, 12 of an AutoV3, or 64 of a SHA-256 or BLAKE3";

/// What `base_model` may be.
fn base_models() -> String {
    let families = BaseModelFamily::ALL.map(BaseModelFamily::as_str);
    format!("{} or unknown", families.join(", "))
}

/// Lists one's own LoRAs, newest first; of each filename the latest version.
#[utoipa::path(get, path = "/api/v1/comfyui/loras", operation_id = "listLoras", tag = "loras",
    params(
        ("status" = Option<LoraStatusWord>, Query, description = "Only those that stand here."),
        ("tag" = inline(Option<SearchTag>), Query, description = "Only those with this tag."),
        ("q" = inline(Option<SearchText>), Query, description = "Only those whose name, filename or description contains this text."),
        ("base_model" = inline(Option<BaseModelSearch>), Query, description = "Only those for this family of models, in upper or lower case."),
        ("hash" = inline(Option<LoraHashText>), Query, description = "Only those that are known by this hash: a SHA-256 or BLAKE3 digest, an AutoV2 or an AutoV3."),
        PageParameters),
    responses(
        (status = 200, description = "A page.", body = PageBody<LoraBody<'static>>,
            headers(("Link" = Option<String>, description = "Where the next page is, if there is one (RFC 8288).")))))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsLoras(actor): ReadsLoras,
    mut query: Query,
) -> Result<HttpResponse, Problem> {
    let filter = LoraFilter {
        status: query.value(
            "status",
            "uploading, importing, ready or failed",
            LoraStatus::parse,
        ),
        tag: query.text("tag", Tags::MAX_CHARACTERS),
        text: query.text("q", Name::MAX_CHARACTERS),
        base_model: query.value("base_model", &base_models(), BaseModelFilter::parse),
        hash: query.value("hash", HASHES, |text| LoraHash::parse(text).ok()),
    };
    let query = query.finish_list()?;
    let list = filter.list_name();
    let page = query.page(&list)?;
    let page = api.ports().loras.list(&actor, filter, page).await?;
    Ok(page_response(&query, &list, &page, LoraBody::from))
}
