//! `GET /loras`

use actix_web::{HttpResponse, web};
use atelier_domain::lora::{BaseModelFamily, BaseModelFilter, LoraFilter, LoraHash, LoraStatus};
use atelier_domain::text::{Name, Tags};

use super::dto::LoraBody;
use crate::http::api::Api;
use crate::http::auth::AuthActor;
use crate::http::openapi::ProblemResponse;
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
        ("status" = Option<String>, Query, description = "Only those that stand here: `uploading`, `importing`, `ready`, `failed`."),
        ("tag" = Option<String>, Query, description = "Only those with this tag."),
        ("q" = Option<String>, Query, description = "Only those whose name, filename or description contains this text."),
        ("base_model" = Option<String>, Query, description = "Only those for this family of models, such as `SDXL`, or `unknown`."),
        ("hash" = Option<String>, Query, description = "Only those that are known by this hash: a SHA-256 or BLAKE3 digest, an AutoV2 or an AutoV3."),
        ("limit" = Option<u16>, Query, description = "How many: 1 to 200, 50 unless told.", minimum = 1, maximum = 200),
        ("cursor" = Option<String>, Query, description = "The `next_cursor` of the page before.")),
    responses(
        (status = 200, description = "A page.", body = PageBody<LoraBody<'static>>,
            headers(("Link" = String, description = "Where the next page is, if there is one."))),
        (status = 400, response = ProblemResponse),
        (status = 401, response = ProblemResponse),
        (status = 422, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    AuthActor(actor): AuthActor,
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
