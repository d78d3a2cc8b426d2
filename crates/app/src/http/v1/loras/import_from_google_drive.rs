//! `POST /loras/import-from-google-drive`

use actix_web::{HttpRequest, HttpResponse, web};
use utoipa::ToSchema;

use super::dto::LoraBody;
use super::import::{Place, Wanted, Wishes, begin};
use crate::http::PREFIX;
use crate::http::api::Api;
use crate::http::auth::AuthActor;
use crate::http::idempotency::MayBeRepeated;
use crate::http::json::{JsonBody, Members};
use crate::http::lent_token::google_access_token;
use crate::http::openapi::ProblemResponse;
use crate::http::problem::Problem;
use crate::http::query::Query;

const GOOGLE_DRIVE: Place = Place {
    name: "Google Drive",
    pointer: "/google_drive_file_id",
};

/// A file on Google Drive, and what is to become of it.
#[derive(ToSchema)]
#[schema(as = GoogleDriveImport)]
#[expect(dead_code, reason = "describes a body that is read member by member")]
pub(crate) struct GoogleDriveImportBody {
    /// The file's id, or a link to it, as "Copy link" gives it.
    #[schema(example = "https://drive.google.com/file/d/1AbCdEfGhIjKlMnOpQrStUvWxYz012345/view")]
    google_drive_file_id: String,
    /// The name that workflows use, ending in `.safetensors`; the file's own
    /// unless told.
    #[schema(required = false)]
    filename: Option<String>,
    /// What it is called: 1 to 200 characters; the filename without its
    /// extension unless told.
    #[schema(required = false)]
    name: Option<String>,
    /// What it is for: up to 10 000 characters.
    #[schema(required = false)]
    description: Option<String>,
    /// Words to find it by.
    #[schema(required = false)]
    tags: Vec<String>,
    /// Whether it becomes a new version of the LoRA of its filename, if there is
    /// one.
    #[schema(required = false)]
    replace: bool,
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
        ("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key and body within 24 hours, the request is not carried out again: it gets the same answer."),
        ("X-Google-Access-Token" = Option<String>, Header, description = "A Google access token of one's own that may read the file.")),
    request_body(content = GoogleDriveImportBody, content_type = "application/json"),
    responses(
        (status = 200, description = "One has these very bytes under this filename.", body = LoraBody<'static>,
            headers(("Location" = String, description = "Where that LoRA is."))),
        (status = 202, description = "The import is under way.", body = LoraBody<'static>,
            headers(("Location" = String, description = "Where the LoRA is."),
                ("Idempotent-Replayed" = String, description = "`true` where the request came before."))),
        (status = 400, response = ProblemResponse),
        (status = 401, response = ProblemResponse),
        (status = 409, response = ProblemResponse),
        (status = 413, response = ProblemResponse),
        (status = 422, response = ProblemResponse),
        (status = 429, response = ProblemResponse),
        (status = 502, response = ProblemResponse),
        (status = 503, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    AuthActor(actor): AuthActor,
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
