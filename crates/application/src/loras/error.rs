use atelier_domain::ids::LoraId;
use atelier_domain::lora::LoraFailure;
use atelier_domain::ports::{BlobError, Conflict, RepoError};
use atelier_domain::safetensors::SafetensorsError;
use atelier_domain::usage::QuotaExceeded;
use atelier_domain::validation::Violation;
use thiserror::Error;

use crate::allowance::AllowanceError;

/// Why a LoRA was not taken in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UploadLoraError {
    /// Everything that is wrong with what came with the file; pointers `/file`
    /// for its name, `/name`, `/description`, `/tags/0`.
    #[error("the LoRA is not valid")]
    Invalid(Vec<Violation>),
    /// The file is no safetensors file, or a broken one; the text says why, in
    /// words for its sender.
    #[error("{0}")]
    NotSafetensors(String),
    /// The file is larger than allowed.
    #[error("the file has more than {limit_bytes} bytes")]
    TooLarge {
        /// How many bytes a file may have.
        limit_bytes: u64,
    },
    /// The actor's LoRAs would take more than they may.
    #[error(transparent)]
    Quota(QuotaExceeded),
    /// The bytes are not those that were promised; the text says what differs.
    #[error("{0}")]
    WrongBytes(String),
    /// The actor has a LoRA of that filename.
    #[error("there is a LoRA of that filename already")]
    FilenameTaken {
        /// Which, unless its bytes are still on their way.
        existing: Option<LoraId>,
    },
    /// The place that was kept for the file is gone: its owner deleted it, or
    /// the bytes stopped coming for so long that another upload took it.
    #[error("the LoRA was deleted while it was being uploaded")]
    ReservationLost,
    /// The repository failed.
    #[error(transparent)]
    Repo(RepoError),
    /// The object store failed.
    #[error(transparent)]
    Blob(BlobError),
}

impl From<RepoError> for UploadLoraError {
    fn from(error: RepoError) -> Self {
        match error {
            RepoError::Conflict(Conflict::LoraFilename) => Self::FilenameTaken { existing: None },
            other => Self::Repo(other),
        }
    }
}

impl From<AllowanceError> for UploadLoraError {
    fn from(error: AllowanceError) -> Self {
        match error {
            AllowanceError::Exceeded(exceeded) => Self::Quota(exceeded),
            AllowanceError::Repo(error) => Self::Repo(error),
        }
    }
}

impl From<BlobError> for UploadLoraError {
    fn from(error: BlobError) -> Self {
        Self::Blob(error)
    }
}

impl From<SafetensorsError> for UploadLoraError {
    fn from(error: SafetensorsError) -> Self {
        Self::NotSafetensors(error.to_string())
    }
}

impl UploadLoraError {
    /// Whether the same bytes may be taken a little later.
    pub(crate) fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Repo(RepoError::Unavailable(_))
                | Self::Blob(BlobError::Unavailable(_) | BlobError::Full(_))
        )
    }

    /// What the LoRA's owner reads in the list afterwards.
    pub(crate) fn failure(&self) -> LoraFailure {
        let (code, message) = match self {
            Self::Invalid(_) => (
                "invalid",
                "what was sent with the file was not valid; upload it again".to_owned(),
            ),
            Self::NotSafetensors(reason) => ("not_safetensors", reason.clone()),
            Self::WrongBytes(reason) => ("wrong_bytes", reason.clone()),
            Self::TooLarge { .. } => ("too_large", self.to_string()),
            Self::Quota(exceeded) => ("quota_exceeded", exceeded.to_string()),
            Self::FilenameTaken { .. } | Self::ReservationLost => ("taken", self.to_string()),
            Self::Repo(_) | Self::Blob(_) => (
                "storage_failed",
                "the file could not be stored; send it again".to_owned(),
            ),
        };
        LoraFailure {
            code: code.to_owned(),
            message,
        }
    }
}
