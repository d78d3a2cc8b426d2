//! LoRAs on the wire.

use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraFailure, LoraSource, LoraStatus};
use atelier_domain::text::Description;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::PREFIX;
use crate::http::time::Timestamp;

/// A LoRA of one's own.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lora)]
pub(crate) struct LoraBody<'a> {
    /// Its id.
    id: Uuid,
    /// Whose it is; nobody else sees or uses it.
    user_id: Uuid,
    /// What it is called.
    name: &'a str,
    /// The name that workflows use.
    filename: &'a str,
    /// What it is for.
    description: Option<&'a str>,
    /// Words to find it by.
    tags: &'a [String],
    /// `uploading`, `importing`, `ready` or `failed`.
    #[schema(example = "ready")]
    status: &'static str,
    /// How large it is, in bytes; null until it is ready, and so are the next
    /// three.
    file_size: Option<u64>,
    /// The SHA-256 digest of its bytes, in hexadecimal digits.
    sha256: Option<String>,
    /// Where it goes below ComfyUI's LoRA folder.
    comfyui_path: Option<String>,
    /// The model that it was trained on, as the file says.
    base_model: Option<&'a str>,
    /// Words that call it up in a prompt, as the file says.
    trigger_words: &'a [String],
    /// What else the file says of itself.
    #[schema(value_type = Object)]
    metadata: &'a Map<String, Value>,
    /// Where its bytes come from.
    source: SourceBody<'a>,
    /// How many of its bytes are there; null unless they are on their way.
    progress: Option<TransferBody>,
    /// Why its bytes could not be had.
    error: Option<LoraErrorBody<'a>>,
    /// When it was made.
    created_at: Timestamp,
}

/// Where a LoRA's bytes come from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoraSource)]
pub(crate) struct SourceBody<'a> {
    /// `upload` or `google_drive`.
    #[schema(example = "upload")]
    kind: &'static str,
    /// Google Drive's id of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    google_drive_file_id: Option<&'a str>,
}

/// How many of a LoRA's bytes are there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoraProgress)]
pub(crate) struct TransferBody {
    /// So many.
    bytes_done: u64,
    /// Of so many, where that is known.
    bytes_total: Option<u64>,
}

/// Why a LoRA's bytes could not be had.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoraError)]
pub(crate) struct LoraErrorBody<'a> {
    /// What sort of failure, for programs.
    code: &'a str,
    /// What happened and what to do, for people.
    message: &'a str,
}

/// Where a LoRA is.
pub(super) fn location(id: LoraId) -> String {
    format!("{PREFIX}/loras/{id}")
}

static NO_METADATA: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

impl<'a> From<&'a Lora> for LoraBody<'a> {
    fn from(lora: &'a Lora) -> Self {
        let Lora {
            id,
            user_id,
            name,
            filename,
            description,
            tags,
            status,
            source,
            bytes_done,
            bytes_total,
            content,
            error,
            blob_key: _,
            created_at,
        } = lora;
        let content = content.as_ref();
        let facts = content.map(|content| &content.facts);
        Self {
            id: id.as_uuid(),
            user_id: user_id.as_uuid(),
            name: name.as_str(),
            filename: filename.as_str(),
            description: description.as_ref().map(Description::as_str),
            tags: tags.as_slice(),
            status: status.as_str(),
            file_size: content.map(|content| content.file_size),
            sha256: content.map(|content| content.sha256.to_string()),
            comfyui_path: content.map(|content| content.comfyui_path.to_string()),
            base_model: facts.and_then(|facts| facts.base_model.as_deref()),
            trigger_words: facts.map_or(&[], |facts| facts.trigger_words.as_slice()),
            metadata: facts.map_or(&NO_METADATA, |facts| &facts.metadata),
            source: SourceBody::from(source),
            progress: matches!(status, LoraStatus::Uploading | LoraStatus::Importing).then_some(
                TransferBody {
                    bytes_done: *bytes_done,
                    bytes_total: *bytes_total,
                },
            ),
            error: error.as_ref().map(LoraErrorBody::from),
            created_at: Timestamp(*created_at),
        }
    }
}

impl<'a> From<&'a LoraSource> for SourceBody<'a> {
    fn from(source: &'a LoraSource) -> Self {
        match source {
            LoraSource::Upload => Self {
                kind: "upload",
                google_drive_file_id: None,
            },
            LoraSource::GoogleDrive { file_id } => Self {
                kind: "google_drive",
                google_drive_file_id: Some(file_id),
            },
        }
    }
}

impl<'a> From<&'a LoraFailure> for LoraErrorBody<'a> {
    fn from(failure: &'a LoraFailure) -> Self {
        let LoraFailure { code, message } = failure;
        Self { code, message }
    }
}
