//! `POST /loras/import-from-url`

use std::borrow::Cow;

use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::ToSchema;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, SchemaFormat, Type};

use super::import::{ImportAnswer, Place, Wanted, Wishes, begin};
use crate::http::PREFIX;
use crate::http::api::Api;
use crate::http::auth::WritesLoras;
use crate::http::idempotency::MayBeRepeated;
use crate::http::json::{JsonBody, Members};
use crate::http::lent_token::source_authorization;
use crate::http::openapi::parameters::RepeatableParameters;
use crate::http::problem::Problem;
use crate::http::query::Query;

const WEB: Place = Place {
    name: "The host of the address",
    pointer: "/url",
};

/// A file on the web, and what is to become of it.
pub(crate) struct UrlImportBody;

impl utoipa::PartialSchema for UrlImportBody {
    fn schema() -> RefOr<Schema> {
        let reference = ObjectBuilder::new()
            .schema_type(Type::String)
            .format(Some(SchemaFormat::Custom("uri".to_owned())))
            .pattern(Some("^[hH][tT][tT][pP][sS]://"))
            .description(Some(
                "The file's address, on a host that this server imports from. Without credentials: addresses are kept.",
            ))
            .examples(["https://huggingface.co/somebody/styles/resolve/main/ink.safetensors"]);
        Wishes::with("url", reference)
    }
}

impl ToSchema for UrlImportBody {
    fn name() -> Cow<'static, str> {
        "UrlImport".into()
    }
}

/// Brings a LoRA from an address, such as a download link of Hugging Face or
/// Civitai.
///
/// What can be told without the bytes is told at once. They come meanwhile:
/// read the LoRA where `Location` says, until it is `ready` or `failed`; delete
/// it to cancel. A token for the host goes into a header of its own; it is used
/// for this import and kept nowhere, so such an import does not survive a
/// restart of the server.
#[utoipa::path(post, path = "/api/v1/comfyui/loras/import-from-url", operation_id = "importLoraFromUrl", tag = "loras",
    params(
        RepeatableParameters,
        ("X-Source-Authorization" = Option<String>, Header, description = "`Bearer` and a token of one's own for the host of the address.",
            pattern = "^[Bb][Ee][Aa][Rr][Ee][Rr] +[!-~]{1,4096}$")),
    request_body(content = UrlImportBody, content_type = "application/json"),
    responses(ImportAnswer))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesLoras(actor): WritesLoras,
    query: Query,
    once: MayBeRepeated,
    request: HttpRequest,
    body: JsonBody,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let token = source_authorization(request.headers())?;
    let body = body.read(api.limits()).await?;
    let once = once.request(format!("{PREFIX}/loras/import-from-url"), &body)?;
    let mut members = Members::parse(&body)?;
    let reference = members.required("url");
    let wishes = Wishes::take(&mut members);
    members.finish()?;
    let wanted = Wanted {
        reference: reference.unwrap_or_default(),
        wishes,
        token,
        once,
    };
    begin(api.import_from_url(), &actor, wanted, &WEB).await
}
