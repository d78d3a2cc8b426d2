//! `GET /loras/uploads/{id}`

use actix_web::{HttpResponse, web};
use atelier_domain::ports::ResumableUpload;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::api::Api;
use crate::http::auth::WritesLoras;
use crate::http::openapi::ProblemResponse;
use crate::http::path::PathSegments;
use crate::http::problem::Problem;
use crate::http::query::Query;
use crate::http::time::Timestamp;
use crate::http::v1::loras::dto;

/// An upload in pieces.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoraUploadStatus)]
pub(crate) struct UploadStatusBody {
    /// Its id, which is the LoRA's.
    id: Uuid,
    /// How many bytes are there.
    offset: u64,
    /// How many there will be.
    length: u64,
    /// How long its next bytes are waited for.
    expires_at: Timestamp,
    /// Where the LoRA is that it becomes.
    lora: String,
}

impl From<&ResumableUpload> for UploadStatusBody {
    fn from(upload: &ResumableUpload) -> Self {
        let ResumableUpload {
            lora_id,
            length,
            offset,
            metadata: _,
            expires_at,
            status: _,
        } = upload;
        Self {
            id: lora_id.as_uuid(),
            offset: *offset,
            length: *length,
            expires_at: Timestamp(*expires_at),
            lora: dto::location(*lora_id),
        }
    }
}

/// Reads how far an upload is: as `HEAD`, for clients that do not speak tus.
#[utoipa::path(get, path = "/api/v1/comfyui/loras/uploads/{id}", operation_id = "getLoraUpload", tag = "uploads",
    params(("id" = Uuid, Path, description = "The upload's id.")),
    responses(
        (status = 200, description = "The upload.", body = UploadStatusBody),
        (status = 410, response = ProblemResponse)))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    WritesLoras(actor): WritesLoras,
    path: PathSegments,
    query: Query,
) -> Result<HttpResponse, Problem> {
    query.finish()?;
    let upload = api.resumable_uploads().get(&actor, path.id()?).await?;
    Ok(HttpResponse::Ok().json(UploadStatusBody::from(&upload)))
}
