//! `OPTIONS /loras/uploads`

use actix_web::{HttpResponse, web};

use crate::http::api::Api;
use crate::http::openapi::values::TusVersion;
use crate::http::tus::{EXTENSIONS, TUS_EXTENSION, TUS_MAX_SIZE, TUS_VERSION, VERSION};

/// Says what is known here of resumable uploads.
#[utoipa::path(options, path = "/api/v1/comfyui/loras/uploads", operation_id = "describeLoraUploads", tag = "uploads", security(()),
    responses(
        (status = 204, description = "The headers say it.",
            headers(("Tus-Resumable" = inline(TusVersion), description = "The version of the protocol."),
                ("Tus-Version" = inline(TusVersion), description = "The version of the protocol."),
                ("Tus-Extension" = String, description = "What is known besides the core."),
                ("Tus-Max-Size" = u64, description = "The largest file, in bytes.")))))]
pub(crate) async fn handler(api: web::Data<Api>) -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((TUS_VERSION, VERSION))
        .insert_header((TUS_EXTENSION, EXTENSIONS))
        .insert_header((TUS_MAX_SIZE, api.limits().lora_bytes))
        .finish()
}
