//! Rows of input files, and what they mean to the domain.

use atelier_domain::input::{Input, InputFilename, InputFormat, InputPath};
use atelier_domain::ports::{BlobKey, RepoError};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use crate::error::inconsistent;
use crate::run_rows::large_natural;

/// What [`InputRow`] reads, of the table under the alias `input`.
macro_rules! input_columns {
    () => {
        "input.id, input.user_id, input.filename, input.content_type, input.size_bytes, input.sha256, input.width, \
         input.height, input.comfyui_path, input.blob_key, input.created_at"
    };
}
pub(crate) use input_columns;

#[derive(QueryableByName)]
pub(crate) struct InputRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Text)]
    filename: String,
    #[diesel(sql_type = Text)]
    content_type: String,
    #[diesel(sql_type = BigInt)]
    size_bytes: i64,
    #[diesel(sql_type = Text)]
    sha256: String,
    #[diesel(sql_type = BigInt)]
    width: i64,
    #[diesel(sql_type = BigInt)]
    height: i64,
    #[diesel(sql_type = Text)]
    comfyui_path: String,
    #[diesel(sql_type = Text)]
    blob_key: String,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
}

impl TryFrom<InputRow> for Input {
    type Error = RepoError;

    fn try_from(row: InputRow) -> Result<Self, RepoError> {
        let broken = |column| inconsistent("comfyui_inputs", column, row.id);
        let format = InputFormat::ALL
            .into_iter()
            .find(|format| format.content_type() == row.content_type)
            .ok_or_else(|| broken("content_type"))?;
        Ok(Self {
            id: row.id.into(),
            user_id: row.user_id.into(),
            filename: InputFilename::parse(&row.filename).map_err(|_bad| broken("filename"))?,
            format,
            size_bytes: large_natural(row.size_bytes),
            sha256: row.sha256.parse().map_err(|_bad| broken("sha256"))?,
            width: u32::try_from(row.width).map_err(|_bad| broken("width"))?,
            height: u32::try_from(row.height).map_err(|_bad| broken("height"))?,
            comfyui_path: InputPath::parse(&row.comfyui_path)
                .ok_or_else(|| broken("comfyui_path"))?,
            blob_key: BlobKey::parse(row.blob_key).map_err(|_bad| broken("blob_key"))?,
            created_at: row.created_at,
        })
    }
}

/// Turns rows into the domain's type.
pub(crate) fn inputs(rows: Vec<InputRow>) -> Result<Vec<Input>, RepoError> {
    rows.into_iter().map(Input::try_from).collect()
}
