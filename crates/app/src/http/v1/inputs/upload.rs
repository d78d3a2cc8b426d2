//! `POST /inputs`

use actix_multipart::{Field, Multipart};
use actix_web::http::header::{HeaderMap, LOCATION};
use actix_web::web::Payload;
use actix_web::{HttpRequest, HttpResponse, web};
use atelier_application::inputs::{InputUpload, UploadedInput};
use atelier_domain::actor::Actor;
use atelier_domain::validation::pointer_token;
use tracing::Instrument as _;
use utoipa::ToSchema;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{Object, ObjectBuilder};

use super::dto::{InputBody, location};
use crate::http::api::Api;
use crate::http::auth::WritesRuns;
use crate::http::form::{MAX_FIELDS, Pieces, filename, refuse_oversized};
use crate::http::openapi::ProblemResponse;
use crate::http::problem::Problem;
use crate::http::query::Query;

/// A picture as it is sent.
#[derive(ToSchema)]
#[schema(as = InputUpload)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes a form that is read as a stream")]
pub(crate) struct UploadBody {
    /// The picture, with its file name.
    #[schema(schema_with = binary)]
    file: Vec<u8>,
}

/// Bytes, the way OpenAPI 3.1 describes them: by their media type.
fn binary() -> Object {
    ObjectBuilder::new()
        .schema_type(SchemaType::AnyValue)
        .content_media_type("application/octet-stream")
        .description(Some(
            "The picture, PNG, JPEG, WebP or GIF, with its file name: that is the name that workflows use.",
        ))
        .build()
}

/// Takes a picture in that graphs may load.
///
/// What it is, its bytes tell, not its name: PNG, JPEG, WebP or GIF, of at most
/// 178 956 970 pixels. Several may have one name; graphs that say the name mean
/// the newest.
#[utoipa::path(post, path = "/api/v1/comfyui/inputs", operation_id = "uploadInput", tag = "inputs",
    request_body(content = UploadBody, content_type = "multipart/form-data"),
    responses(
        (status = 200, description = "One has these very bytes under this filename.", body = InputBody<'static>,
            headers(("Location" = String, description = "Where that picture is."))),
        (status = 201, description = "It is stored, and workflows may name it.", body = InputBody<'static>,
            headers(("Location" = String, description = "Where it is."))),
        (status = 409, response = ProblemResponse),
        (status = 502, response = ProblemResponse),
        (status = 507, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesRuns(actor): WritesRuns,
    query: Query,
    request: HttpRequest,
    payload: Payload,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    refuse_oversized(&request, "An input file", api.limits().input_bytes)?;
    let upload = read(&api, &actor, request.headers(), payload).await?;
    // The whole picture is there: this goes on even if its sender is gone.
    let finishing = actix_web::rt::spawn(upload.finish().in_current_span());
    let uploaded = finishing.await.map_err(Problem::internal)?;
    let (mut response, input) = match uploaded? {
        UploadedInput::New(input) => (HttpResponse::Created(), input),
        UploadedInput::Same(input) => (HttpResponse::Ok(), input),
    };
    Ok(response
        .insert_header((LOCATION, location(input.id)))
        .json(InputBody::from(input.as_ref())))
}

/// Reads the form up to its end. Dropped, because its sender is gone, it leaves
/// nothing behind.
async fn read(
    api: &Api,
    actor: &Actor,
    headers: &HeaderMap,
    payload: Payload,
) -> Result<InputUpload, Problem> {
    let pieces = Pieces::of(api);
    let mut form = Multipart::new(headers, payload);
    let mut upload = None;
    let mut fields = 0_usize;
    loop {
        let next = match pieces.next(&mut form).await {
            Ok(next) => next,
            Err(problem) => return Err(given_up(upload, problem).await),
        };
        let Some(field) = next else { break };
        fields += 1;
        let fault = fault_of(&field, upload.is_some(), fields);
        if let Some(fault) = fault {
            return Err(given_up(upload, fault).await);
        }
        upload = Some(file(api, actor, pieces, field).await?);
    }
    upload.ok_or_else(|| Problem::invalid("/file", "is missing"))
}

fn fault_of(field: &Field, is_second: bool, fields: usize) -> Option<Problem> {
    let name = field.name().unwrap_or_default();
    if fields > MAX_FIELDS {
        let detail = format!("must have at most {MAX_FIELDS} fields");
        return Some(Problem::invalid("", detail));
    }
    if name != "file" {
        let pointer = format!("/{}", pointer_token(name));
        let detail = "is not a field of this form; it has file alone";
        return Some(Problem::invalid(pointer, detail));
    }
    is_second.then(|| Problem::invalid("/file", "is there more than once"))
}

async fn file(
    api: &Api,
    actor: &Actor,
    pieces: Pieces<'_>,
    mut field: Field,
) -> Result<InputUpload, Problem> {
    let Some(filename) = filename(&field) else {
        return Err(Problem::invalid(
            "/file",
            "has no file name; send it as a file, as in curl's -F file=@photo.png",
        ));
    };
    let mut upload = api.upload_input().begin(actor.clone(), &filename).await?;
    loop {
        let written = match pieces.next(&mut field).await {
            Ok(Some(bytes)) => upload.write(bytes).await.map_err(Problem::from),
            Ok(None) => return Ok(upload),
            Err(problem) => Err(problem),
        };
        if let Err(problem) = written {
            return Err(given_up(Some(upload), problem).await);
        }
    }
}

async fn given_up(upload: Option<InputUpload>, problem: Problem) -> Problem {
    if let Some(upload) = upload {
        upload.abort().await;
    }
    problem
}
