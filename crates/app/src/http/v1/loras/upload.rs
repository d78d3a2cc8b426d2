//! `POST /loras`

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use atelier_application::loras::Uploaded;
use utoipa::ToSchema;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{Object, ObjectBuilder};

use super::dto::{LoraBody, location};
use super::form::{UploadForm, refuse_oversized};
use crate::http::api::Api;
use crate::http::auth::AuthActor;
use crate::http::openapi::ProblemResponse;
use crate::http::problem::Problem;
use crate::http::query::{Query, flag};

/// A LoRA as it is sent: a form, its fields in any order.
#[derive(ToSchema)]
#[schema(as = LoraUpload)]
#[expect(dead_code, reason = "describes a form that is read as a stream")]
pub(crate) struct UploadBody {
    /// The file, in the safetensors format, with its file name: that is the
    /// name that workflows use.
    #[schema(schema_with = binary)]
    file: Vec<u8>,
    /// Whether the file becomes a new version of the LoRA of its filename, if
    /// there is one: then `true`. It must stand before the file.
    replace: Option<bool>,
    /// What it is called: 1 to 200 characters; the file's name without its
    /// extension unless told.
    name: Option<String>,
    /// What it is for: up to 10 000 characters.
    description: Option<String>,
    /// Words to find it by, separated by commas; the field may also be there
    /// several times.
    tags: Option<Vec<String>>,
}

/// Bytes, the way OpenAPI 3.1 describes them: by their media type.
fn binary() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .content_media_type("application/octet-stream")
        .description(Some(
            "The file, in the safetensors format, with its file name: that is the name that workflows use.",
        ))
        .build()
}

/// Takes a LoRA in.
///
/// A file that is no LoRA is refused as soon as its header is there. Without
/// `replace`, a file under a filename that one has must have the very bytes that
/// are there, and nothing happens.
///
/// Over a bad line, send large files in pieces: `POST /loras/uploads`.
#[utoipa::path(post, path = "/api/v1/comfyui/loras", operation_id = "uploadLora", tag = "loras",
    params(("replace" = Option<bool>, Query, description = "As the field of the form.")),
    request_body(content = UploadBody, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "One has these very bytes under this filename.", body = LoraBody<'static>,
            headers(("Location" = String, description = "Where that LoRA is."))),
        (status = 201, description = "It is stored, and runs may use it.", body = LoraBody<'static>,
            headers(("Location" = String, description = "Where it is."))),
        (status = 400, response = ProblemResponse),
        (status = 401, response = ProblemResponse),
        (status = 408, response = ProblemResponse),
        (status = 409, response = ProblemResponse),
        (status = 413, response = ProblemResponse),
        (status = 415, response = ProblemResponse),
        (status = 422, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    AuthActor(actor): AuthActor,
    mut query: Query,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let replaces = query.value("replace", "true or false", flag);
    query.finish()?;
    refuse_oversized(&request, api.limits())?;
    let mut form = UploadForm::new(&api, actor, replaces);
    form.read(request.headers(), payload).await?;
    let (mut response, lora) = match form.finish().await? {
        Uploaded::New(lora) => (HttpResponse::Created(), lora),
        Uploaded::Same(lora) => (HttpResponse::Ok(), lora),
    };
    Ok(response
        .insert_header((LOCATION, location(lora.id)))
        .json(LoraBody::from(lora.as_ref())))
}
