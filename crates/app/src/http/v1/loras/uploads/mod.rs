//! LoRAs in pieces: tus 1.0.0 (`reference/platform/PROTOCOLS.md` section 7.5).

pub(crate) mod append;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod head;
mod metadata;
pub(crate) mod options;
mod receiving;

use std::borrow::Cow;

use atelier_domain::ids::LoraId;
use utoipa::openapi::schema::SchemaType;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema};
use utoipa::{PartialSchema, ToSchema};

use crate::http::PREFIX;
use crate::http::tus::OFFSET_OCTET_STREAM;

/// Where an upload is.
fn location(id: LoraId) -> String {
    format!("{PREFIX}/loras/uploads/{id}")
}

/// Bytes, the way OpenAPI 3.1 describes them: by their media type.
pub(crate) struct UploadBytes;

impl PartialSchema for UploadBytes {
    fn schema() -> RefOr<Schema> {
        let bytes = ObjectBuilder::new()
            .schema_type(SchemaType::AnyValue)
            .content_media_type(OFFSET_OCTET_STREAM)
            .description(Some("Bytes of the file."));
        RefOr::T(Schema::Object(bytes.build()))
    }
}

impl ToSchema for UploadBytes {
    fn name() -> Cow<'static, str> {
        "LoraUploadBytes".into()
    }
}
