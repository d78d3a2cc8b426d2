//! Rows of LoRAs, and what they mean to the domain.

use atelier_domain::ids::UserId;
use atelier_domain::lora::{
    BaseModel, BaseModelFamily, Confidence, Lora, LoraContent, LoraFacts, LoraFailure,
    LoraFilename, LoraHashes, LoraPath, LoraSource, LoraStatus, LoraVersion,
};
use atelier_domain::ports::{BlobKey, RepoError};
use atelier_domain::text::{Description, Name, Tags};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Int4, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use crate::error::inconsistent;
use crate::json_text::JsonText;
use crate::run_rows::{large_natural, natural};

const TABLE: &str = "comfyui_lora_models";

/// What [`LoraRow`] reads, of the table under the alias `lora`.
macro_rules! lora_columns {
    () => {
        "lora.id, lora.user_id, lora.name, lora.filename, lora.description, lora.tags, lora.status, \
         lora.google_drive_file_id, lora.source_url, lora.bytes_done, lora.bytes_total, lora.file_size, lora.sha256, \
         lora.blake3, lora.tensors_sha256, lora.version, lora.comfyui_path, lora.base_model, \
         lora.base_model_confidence, lora.base_model_evidence, lora.title, lora.network_rank, lora.network_type, \
         lora.trigger_words, lora.metadata, lora.error_code, lora.error_message, lora.blob_key, lora.superseded_at, \
         lora.created_at"
    };
}
pub(crate) use lora_columns;

#[derive(QueryableByName)]
pub(crate) struct LoraRow {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    filename: String,
    #[diesel(sql_type = Nullable<Text>)]
    description: Option<String>,
    #[diesel(sql_type = Array<Text>)]
    tags: Vec<String>,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Text>)]
    google_drive_file_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    source_url: Option<String>,
    #[diesel(sql_type = BigInt)]
    bytes_done: i64,
    #[diesel(sql_type = Nullable<BigInt>)]
    bytes_total: Option<i64>,
    #[diesel(embed)]
    content: ContentRow,
    #[diesel(sql_type = Nullable<Text>)]
    error_code: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    error_message: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    blob_key: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    superseded_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

/// What is known of a ready LoRA's bytes.
#[derive(QueryableByName)]
struct ContentRow {
    #[diesel(sql_type = Nullable<BigInt>)]
    file_size: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    sha256: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    blake3: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    tensors_sha256: Option<String>,
    #[diesel(sql_type = Nullable<Int4>)]
    version: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    comfyui_path: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    base_model: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    base_model_confidence: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    base_model_evidence: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    title: Option<String>,
    #[diesel(sql_type = Nullable<Int4>)]
    network_rank: Option<i32>,
    #[diesel(sql_type = Nullable<Text>)]
    network_type: Option<String>,
    #[diesel(sql_type = Array<Text>)]
    trigger_words: Vec<String>,
    #[diesel(sql_type = Json)]
    metadata: JsonText,
}

impl ContentRow {
    fn into_content(self, row: Uuid) -> Result<Option<LoraContent>, RepoError> {
        let broken = |column| inconsistent(TABLE, column, row);
        let (Some(file_size), Some(sha256), Some(path), Some(version)) =
            (self.file_size, self.sha256, self.comfyui_path, self.version)
        else {
            return Ok(None);
        };
        let base_model = match (
            self.base_model,
            self.base_model_confidence,
            self.base_model_evidence,
        ) {
            (Some(family), Some(confidence), Some(evidence)) => Some(BaseModel {
                family: BaseModelFamily::parse(&family).ok_or_else(|| broken("base_model"))?,
                confidence: Confidence::parse(&confidence)
                    .ok_or_else(|| broken("base_model_confidence"))?,
                evidence,
            }),
            _ => None,
        };
        Ok(Some(LoraContent {
            file_size: large_natural(file_size),
            hashes: LoraHashes {
                sha256: sha256.parse().map_err(|_broken| broken("sha256"))?,
                blake3: self
                    .blake3
                    .map(|digits| digits.parse())
                    .transpose()
                    .map_err(|_broken| broken("blake3"))?,
                tensors_sha256: self
                    .tensors_sha256
                    .map(|digits| digits.parse())
                    .transpose()
                    .map_err(|_broken| broken("tensors_sha256"))?,
            },
            version: LoraVersion::new(natural(version)).ok_or_else(|| broken("version"))?,
            comfyui_path: LoraPath::parse(&path).map_err(|_broken| broken("comfyui_path"))?,
            facts: LoraFacts {
                base_model,
                title: self.title,
                rank: self.network_rank.map(natural),
                network_type: self.network_type,
                trigger_words: self.trigger_words,
                metadata: serde_json::from_str(&self.metadata.0)
                    .map_err(|_broken| broken("metadata"))?,
            },
        }))
    }
}

impl TryFrom<LoraRow> for Lora {
    type Error = RepoError;

    fn try_from(row: LoraRow) -> Result<Self, RepoError> {
        let broken = |column| inconsistent(TABLE, column, row.id);
        let filename = LoraFilename::parse(&row.filename).map_err(|_broken| broken("filename"))?;
        let owner = UserId::new(row.user_id);
        let blob_key = match row.blob_key {
            Some(key) => BlobKey::parse(key).map_err(|_broken| broken("blob_key"))?,
            // Nothing is there any more; this is where it would have been.
            None => BlobKey::of_lora(owner, &filename),
        };
        Ok(Self {
            id: row.id.into(),
            user_id: owner,
            name: Name::parse(row.name).map_err(|_broken| broken("name"))?,
            filename,
            description: row
                .description
                .map(Description::parse)
                .transpose()
                .map_err(|_broken| broken("description"))?,
            tags: Tags::parse(row.tags).map_err(|_broken| broken("tags"))?,
            status: LoraStatus::parse(&row.status).ok_or_else(|| broken("status"))?,
            source: match (row.google_drive_file_id, row.source_url) {
                (Some(file_id), _) => LoraSource::GoogleDrive { file_id },
                (None, Some(url)) => LoraSource::Url { url },
                (None, None) => LoraSource::Upload,
            },
            bytes_done: large_natural(row.bytes_done),
            bytes_total: row.bytes_total.map(large_natural),
            content: row.content.into_content(row.id)?,
            error: row
                .error_code
                .zip(row.error_message)
                .map(|(code, message)| LoraFailure { code, message }),
            blob_key,
            superseded_at: row.superseded_at,
            created_at: row.created_at,
        })
    }
}

/// Reads rows, in their order.
pub(crate) fn loras(rows: Vec<LoraRow>) -> Result<Vec<Lora>, RepoError> {
    rows.into_iter().map(Lora::try_from).collect()
}
