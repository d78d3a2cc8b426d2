//! LoRAs on the wire.

use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraFailure, LoraHashes, LoraSource, LoraStatus};
use atelier_domain::text;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::PREFIX;
use crate::http::openapi::values::{
    BaseModelWord, ConfidenceWord, Description, Digest, LoraFilename, LoraSourceWord,
    LoraStatusWord, Name, Tags,
};
use crate::http::time::Timestamp;

/// A LoRA of one's own: one version of what goes by its filename.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Lora)]
pub(crate) struct LoraBody<'a> {
    /// Its id.
    id: Uuid,
    /// Whose it is; nobody else sees or uses it.
    user_id: Uuid,
    #[schema(value_type = Name)]
    name: &'a str,
    #[schema(value_type = LoraFilename)]
    filename: &'a str,
    /// The how-manyth bytes under its filename it has, from 1; null until it is
    /// ready. Workflows name a certain version as `filename@version`.
    version: Option<u32>,
    /// When a later version took its place; null for the one that the bare
    /// filename names.
    superseded_at: Option<Timestamp>,
    #[schema(value_type = Option<Description>)]
    description: Option<&'a str>,
    #[schema(value_type = Tags)]
    tags: &'a [String],
    /// Where it stands.
    #[schema(value_type = LoraStatusWord)]
    status: &'static str,
    /// How large it is, in bytes; null until it is ready, and so are the next
    /// three.
    file_size: Option<u64>,
    /// The SHA-256 digest of its bytes, in hexadecimal digits.
    #[schema(value_type = Option<Digest>)]
    sha256: Option<String>,
    /// All hashes by which the world knows it.
    hashes: Option<HashesBody>,
    /// Where it goes below ComfyUI's LoRA folder.
    comfyui_path: Option<String>,
    /// The family of models that it is for, such as `SDXL`; null where that
    /// cannot be told.
    #[schema(value_type = Option<BaseModelWord>)]
    base_model: Option<&'static str>,
    /// How sure that is: `low` where only the file says so, `medium`, or `high`
    /// where its tensors fit nothing else.
    #[schema(value_type = Option<ConfidenceWord>)]
    base_model_confidence: Option<&'static str>,
    /// What speaks for it, for people.
    base_model_evidence: Option<&'a str>,
    /// What its maker calls it, as the file says.
    title: Option<&'a str>,
    /// The rank of its matrices: the most frequent one, where they differ.
    rank: Option<u32>,
    /// How it changes a model, such as `LoRA`, `LoHa` or `LoKr`.
    network_type: Option<&'a str>,
    /// Words that call it up in a prompt, as the file says, the strongest first.
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

/// The hashes of a LoRA file, in hexadecimal digits.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoraHashes)]
pub(crate) struct HashesBody {
    /// The SHA-256 digest of the file.
    #[schema(value_type = Digest)]
    sha256: String,
    /// The BLAKE3 digest of the file; null for files from before it was made.
    #[schema(value_type = Option<Digest>)]
    blake3: Option<String>,
    /// The first 10 digits of the SHA-256 digest, as Civitai and others have it.
    #[schema(pattern = "^[0-9A-F]{10}$", example = "E3B0C44298")]
    autov2: String,
    /// The first 12 digits of the SHA-256 digest of the tensors alone, which
    /// stays when only the metadata change; null as above.
    #[schema(pattern = "^[0-9A-F]{12}$", example = "E3B0C44298FC")]
    autov3: Option<String>,
}

/// Where a LoRA's bytes come from.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoraSource)]
pub(crate) struct SourceBody<'a> {
    #[schema(value_type = LoraSourceWord)]
    kind: &'static str,
    /// Google Drive's id of the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    google_drive_file_id: Option<&'a str>,
    /// The address that it was downloaded from.
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
}

/// LoRAs that belong together, in no pages.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = LoraVersions)]
pub(crate) struct VersionsBody<'a> {
    /// All versions, the latest first.
    #[schema(value_type = Vec<LoraBody<'static>>)]
    items: Vec<LoraBody<'a>>,
}

impl<'a> From<&'a [Lora]> for VersionsBody<'a> {
    fn from(versions: &'a [Lora]) -> Self {
        Self {
            items: versions.iter().map(LoraBody::from).collect(),
        }
    }
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
            superseded_at,
            created_at,
        } = lora;
        let content = content.as_ref();
        let facts = content.map(|content| &content.facts);
        let base_model = facts.and_then(|facts| facts.base_model.as_ref());
        Self {
            id: id.as_uuid(),
            user_id: user_id.as_uuid(),
            name: name.as_str(),
            filename: filename.as_str(),
            version: content.map(|content| content.version.number()),
            superseded_at: superseded_at.map(Timestamp),
            description: description.as_ref().map(text::Description::as_str),
            tags: tags.as_slice(),
            status: status.as_str(),
            file_size: content.map(|content| content.file_size),
            sha256: content.map(|content| content.hashes.sha256.to_string()),
            hashes: content.map(|content| HashesBody::from(&content.hashes)),
            comfyui_path: content.map(|content| content.comfyui_path.to_string()),
            base_model: base_model.map(|base_model| base_model.family.as_str()),
            base_model_confidence: base_model.map(|base_model| base_model.confidence.as_str()),
            base_model_evidence: base_model.map(|base_model| base_model.evidence.as_str()),
            title: facts.and_then(|facts| facts.title.as_deref()),
            rank: facts.and_then(|facts| facts.rank),
            network_type: facts.and_then(|facts| facts.network_type.as_deref()),
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

impl From<&LoraHashes> for HashesBody {
    fn from(hashes: &LoraHashes) -> Self {
        Self {
            sha256: hashes.sha256.to_string(),
            blake3: hashes.blake3.map(|digest| digest.to_string()),
            autov2: hashes.auto_v2(),
            autov3: hashes.auto_v3(),
        }
    }
}

impl<'a> From<&'a LoraSource> for SourceBody<'a> {
    fn from(source: &'a LoraSource) -> Self {
        let (kind, google_drive_file_id, url) = match source {
            LoraSource::Upload => ("upload", None, None),
            LoraSource::GoogleDrive { file_id } => ("google_drive", Some(file_id.as_str()), None),
            LoraSource::Url { url } => ("url", None, Some(url.as_str())),
        };
        Self {
            kind,
            google_drive_file_id,
            url,
        }
    }
}

impl<'a> From<&'a LoraFailure> for LoraErrorBody<'a> {
    fn from(failure: &'a LoraFailure) -> Self {
        let LoraFailure { code, message } = failure;
        Self { code, message }
    }
}
