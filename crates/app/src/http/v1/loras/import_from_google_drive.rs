//! `POST /loras/import-from-google-drive`

use std::borrow::Cow;

use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::ToSchema;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};

use super::import::{ImportAnswer, Place, Wanted, Wishes, begin};
use crate::http::PREFIX;
use crate::http::api::Api;
use crate::http::auth::WritesLoras;
use crate::http::idempotency::MayBeRepeated;
use crate::http::json::{JsonBody, Members};
use crate::http::lent_token::google_access_token;
use crate::http::openapi::parameters::RepeatableParameters;
use crate::http::problem::Problem;
use crate::http::query::Query;

const GOOGLE_DRIVE: Place = Place {
    name: "Google Drive",
    pointer: "/google_drive_file_id",
};

/// A file on Google Drive, and what is to become of it.
pub(crate) struct GoogleDriveImportBody;

impl utoipa::PartialSchema for GoogleDriveImportBody {
    fn schema() -> RefOr<Schema> {
        let reference = ObjectBuilder::new()
            .schema_type(Type::String)
            .min_length(Some(10))
            .max_length(Some(2_048))
            .description(Some(
                "The file's id, or a link to it, as \"Copy link\" gives it.",
            ))
            .examples(["https://drive.google.com/file/d/1AbCdEfGhIjKlMnOpQrStUvWxYz012345/view"]);
        Wishes::with("google_drive_file_id", reference)
    }
}

impl ToSchema for GoogleDriveImportBody {
    fn name() -> Cow<'static, str> {
        "GoogleDriveImport".into()
    }
}

/// Brings a LoRA from Google Drive.
///
/// What can be told without the bytes is told at once. They come meanwhile:
/// read the LoRA where `Location` says, until it is `ready` or `failed`; delete
/// it to cancel. A file that this server may not read is read with a Google
/// access token of one's own, which is used for this import and kept nowhere;
/// such an import does not survive a restart of the server.
#[utoipa::path(post, path = "/api/v1/comfyui/loras/import-from-google-drive", operation_id = "importLoraFromGoogleDrive", tag = "loras",
    params(
        RepeatableParameters,
        ("X-Google-Access-Token" = Option<String>, Header, description = "A Google access token of one's own that may read the file.",
            pattern = "^([Bb][Ee][Aa][Rr][Ee][Rr] +)?[!-~]{1,4096}$")),
    request_body(content = GoogleDriveImportBody, content_type = "application/json"),
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
    let token = google_access_token(request.headers())?;
    let body = body.read(api.limits()).await?;
    let once = once.request(format!("{PREFIX}/loras/import-from-google-drive"), &body)?;
    let mut members = Members::parse(&body)?;
    let reference = members.required("google_drive_file_id");
    let wishes = Wishes::take(&mut members);
    members.finish()?;
    let wanted = Wanted {
        reference: reference.unwrap_or_default(),
        wishes,
        token,
        once,
    };
    begin(api.import_from_drive(), &actor, wanted, &GOOGLE_DRIVE).await
}
