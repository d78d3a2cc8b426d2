//! Input pictures on the wire.

use atelier_domain::ids::InputId;
use atelier_domain::input::Input;
use serde::Serialize;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::PREFIX;
use crate::http::openapi::values::{Digest, InputFilename, InputTypeWord};
use crate::http::time::Timestamp;

/// A picture of one's own, for graphs to load. Its bytes never change.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Input)]
pub(crate) struct InputBody<'a> {
    /// Its id.
    id: Uuid,
    /// Whose it is; nobody else sees or uses it.
    user_id: Uuid,
    #[schema(value_type = InputFilename)]
    filename: &'a str,
    /// What its bytes are, whatever its name says.
    #[schema(value_type = InputTypeWord)]
    content_type: &'static str,
    /// How large it is, in bytes.
    file_size: u64,
    /// The SHA-256 digest of its bytes, in hexadecimal digits.
    #[schema(value_type = Digest)]
    sha256: String,
    /// Its width, in pixels.
    width: u32,
    /// Its height, in pixels.
    height: u32,
    /// Where it goes below ComfyUI's input folder; workflows may name it by that,
    /// too.
    comfyui_path: &'a str,
    /// When it was uploaded.
    created_at: Timestamp,
}

impl<'a> From<&'a Input> for InputBody<'a> {
    fn from(input: &'a Input) -> Self {
        let Input {
            id,
            user_id,
            filename,
            format,
            size_bytes,
            sha256,
            width,
            height,
            comfyui_path,
            blob_key: _,
            created_at,
        } = input;
        Self {
            id: id.as_uuid(),
            user_id: user_id.as_uuid(),
            filename: filename.as_str(),
            content_type: format.content_type(),
            file_size: *size_bytes,
            sha256: sha256.to_string(),
            width: *width,
            height: *height,
            comfyui_path: comfyui_path.as_str(),
            created_at: Timestamp(*created_at),
        }
    }
}

/// Where a picture is.
pub(super) fn location(id: InputId) -> String {
    format!("{PREFIX}/inputs/{id}")
}
