//! `POST /loras/{id}/prefetch`

use actix_web::{HttpResponse, web};
use atelier_domain::ports::{LoraCopy, WriteOutcome};
use serde::Serialize;
use utoipa::ToSchema;

use crate::http::api::Api;
use crate::http::auth::WritesLoras;
use crate::http::openapi::ProblemResponse;
use crate::http::openapi::values::CopyStateWord;
use crate::http::path::PathSegments;
use crate::http::problem::{Problem, ProblemCode};
use crate::http::query::Query;

/// Where a LoRA is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoraCopies)]
pub(crate) struct CopiesBody<'a> {
    /// Every backend that is served at the moment.
    #[schema(value_type = Vec<CopyBody<'static>>)]
    backends: Vec<CopyBody<'a>>,
}

/// Whether one backend has a LoRA.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoraCopy)]
pub(crate) struct CopyBody<'a> {
    /// The backend.
    backend: &'a str,
    #[schema(value_type = CopyStateWord)]
    state: &'static str,
}

impl<'a> From<&'a LoraCopy> for CopyBody<'a> {
    fn from(copy: &'a LoraCopy) -> Self {
        Self {
            backend: &copy.backend,
            state: copy.state.as_str(),
        }
    }
}

/// Has a LoRA brought to every backend, before a run needs it.
///
/// Asked again, it says how far that is.
#[utoipa::path(post, path = "/api/v1/comfyui/loras/{id}/prefetch", operation_id = "prefetchLora", tag = "loras",
    params(("id" = Uuid, Path, description = "The LoRA's id.")),
    responses(
        (status = 202, description = "The backends get it.", body = CopiesBody<'static>),
        (status = 409, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesLoras(actor): WritesLoras,
    path: PathSegments,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    match api.ports().copies.request(&actor, path.id()?).await? {
        WriteOutcome::Done(copies) => Ok(HttpResponse::Accepted().json(CopiesBody {
            backends: copies.iter().map(CopyBody::from).collect(),
        })),
        WriteOutcome::NotFound | WriteOutcome::NotYours => Err(Problem::lora_not_found()),
        WriteOutcome::Stale(_) => Err(Problem::new(
            ProblemCode::LoraNotReady,
            "The LoRA is not ready: its bytes are not there.",
        )),
    }
}
