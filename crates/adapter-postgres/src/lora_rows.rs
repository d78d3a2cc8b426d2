//! Rows of LoRAs, and what they mean to the domain.

use atelier_domain::ids::UserId;
use atelier_domain::lora::{
    Lora, LoraContent, LoraFacts, LoraFailure, LoraFilename, LoraPath, LoraSource, LoraStatus,
    NewLora,
};
use atelier_domain::ports::{BlobKey, RepoError};
use atelier_domain::text::{Description, Name, Tags};
use chrono::{DateTime, Utc};
use diesel::{Queryable, QueryableByName, Selectable};
use uuid::Uuid;

use crate::error::inconsistent;
use crate::json_text::JsonText;
use crate::schema::comfyui_lora_models;

const TABLE: &str = "comfyui_lora_models";

#[derive(Queryable, QueryableByName, Selectable)]
#[diesel(table_name = comfyui_lora_models, check_for_backend(diesel::pg::Pg))]
pub(crate) struct LoraRow {
    id: Uuid,
    user_id: Uuid,
    name: String,
    filename: String,
    description: Option<String>,
    tags: Vec<String>,
    status: String,
    google_drive_file_id: Option<String>,
    bytes_done: i64,
    bytes_total: Option<i64>,
    file_size: Option<i64>,
    sha256: Option<String>,
    comfyui_path: Option<String>,
    base_model: Option<String>,
    trigger_words: Vec<String>,
    metadata: JsonText,
    error_code: Option<String>,
    error_message: Option<String>,
    blob_key: Option<String>,
    created_at: DateTime<Utc>,
}

impl TryFrom<LoraRow> for Lora {
    type Error = RepoError;

    fn try_from(row: LoraRow) -> Result<Self, RepoError> {
        let broken = |column| inconsistent(TABLE, column, row.id);
        let filename = LoraFilename::parse(&row.filename).map_err(|_broken| broken("filename"))?;
        let owner = UserId::new(row.user_id);
        let content = match (row.file_size, row.sha256, row.comfyui_path) {
            (Some(file_size), Some(sha256), Some(path)) => Some(LoraContent {
                file_size: bytes(file_size),
                sha256: sha256.parse().map_err(|_broken| broken("sha256"))?,
                comfyui_path: LoraPath::parse(&path).map_err(|_broken| broken("comfyui_path"))?,
                facts: LoraFacts {
                    base_model: row.base_model,
                    trigger_words: row.trigger_words,
                    metadata: serde_json::from_str(&row.metadata.0)
                        .map_err(|_broken| broken("metadata"))?,
                },
            }),
            _ => None,
        };
        let blob_key = match row.blob_key {
            Some(key) => BlobKey::parse(key).map_err(|_broken| broken("blob_key"))?,
            // Nothing is there any more; this is where it would have been.
            None => first_key(owner, &filename)?,
        };
        Ok(Self {
            id: row.id.into(),
            user_id: owner,
            name: Name::parse(&row.name).map_err(|_broken| broken("name"))?,
            filename,
            description: row
                .description
                .map(|text| Description::parse(&text))
                .transpose()
                .map_err(|_broken| broken("description"))?,
            tags: Tags::parse(&row.tags).map_err(|_broken| broken("tags"))?,
            status: LoraStatus::parse(&row.status).ok_or_else(|| broken("status"))?,
            source: match row.google_drive_file_id {
                Some(file_id) => LoraSource::GoogleDrive { file_id },
                None => LoraSource::Upload,
            },
            bytes_done: bytes(row.bytes_done),
            bytes_total: row.bytes_total.map(bytes),
            content,
            error: row
                .error_code
                .zip(row.error_message)
                .map(|(code, message)| LoraFailure { code, message }),
            blob_key,
            created_at: row.created_at,
        })
    }
}

/// A number of bytes that a CHECK keeps from being negative.
fn bytes(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// A number of bytes as the database keeps it.
pub(crate) fn stored_bytes(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// `user-{uuid}/loras/{filename}`, the key that a LoRA gets if nothing has it.
pub(crate) fn first_key(owner: UserId, filename: &LoraFilename) -> Result<BlobKey, RepoError> {
    BlobKey::parse(LoraPath::first(owner, filename).blob_key())
        .map_err(|error| RepoError::Backend(Box::new(error)))
}

/// A key that no other row can have.
pub(crate) fn own_key(owner: UserId, new: &NewLora) -> Result<BlobKey, RepoError> {
    BlobKey::parse(format!("user-{owner}/loras/{}/{}", new.id, new.filename))
        .map_err(|error| RepoError::Backend(Box::new(error)))
}
