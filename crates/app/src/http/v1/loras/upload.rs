//! `POST /loras`

use actix_web::http::header::LOCATION;
use actix_web::{HttpRequest, HttpResponse, web};
use atelier_application::loras::Uploaded;
use utoipa::ToSchema;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{Object, ObjectBuilder};

use super::dto::{LoraBody, location};
use super::form::UploadForm;
use crate::http::api::Api;
use crate::http::auth::WritesLoras;
use crate::http::form::refuse_oversized;
use crate::http::openapi::ProblemResponse;
use crate::http::openapi::values::{Description, Name};
use crate::http::problem::Problem;
use crate::http::query::{Query, flag};

/// A LoRA as it is sent: a form, its fields in any order.
#[derive(ToSchema)]
#[schema(as = LoraUpload)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a form that is read as a stream")]
pub(crate) struct UploadBody {
    /// The file, in the safetensors format, with its file name: that is the
    /// name that workflows use.
    #[schema(schema_with = binary)]
    file: Vec<u8>,
    /// Whether the file becomes a new version of the LoRA of its filename, if
    /// there is one: then `true`. It must stand before the file.
    #[schema(nullable = false)]
    replace: Option<bool>,
    /// The file's name without its extension unless told.
    #[schema(value_type = Name, required = false)]
    name: Option<String>,
    #[schema(value_type = Description, required = false)]
    description: Option<String>,
    /// Words to find it by, separated by commas; the field may also be there
    /// several times.
    #[schema(nullable = false)]
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
        (status = 409, response = ProblemResponse),
        (status = 502, response = ProblemResponse),
        (status = 507, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesLoras(actor): WritesLoras,
    mut query: Query,
    request: HttpRequest,
    payload: web::Payload,
) -> Result<HttpResponse, Problem> {
    let replaces = query.value("replace", "true or false", flag);
    query.finish()?;
    refuse_oversized(&request, "A LoRA file", api.limits().lora_bytes)?;
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
