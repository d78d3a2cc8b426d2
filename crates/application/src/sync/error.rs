use std::sync::Arc;

use atelier_domain::ids::LoraId;
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{BlobError, LoraFolderError, RepoError};
use thiserror::Error;

/// Why LoRAs could not be put where a run needs them.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum LoraSyncError {
    /// A LoRA is gone, or has no bytes.
    #[error("LoRA {0} is gone")]
    Missing(LoraId),
    /// The repository failed.
    #[error("LoRAs could not be looked up")]
    Repo(#[source] Arc<RepoError>),
    /// The folder could not be looked at.
    #[error("the LoRA folder could not be looked at")]
    Folder(#[source] Arc<LoraFolderError>),
    /// The LoRAs would not fit even if nothing else were there.
    #[error("the LoRAs have {needed_bytes} bytes; the LoRA folder can have {capacity_bytes}")]
    NeverFits {
        /// How many bytes the LoRAs have together.
        needed_bytes: u64,
        /// How many bytes of ours the folder can have.
        capacity_bytes: u64,
    },
    /// A copy failed.
    #[error("{path} could not be copied")]
    Copy {
        /// Where it was to go.
        path: LoraPath,
        /// Why.
        #[source]
        cause: Arc<CopyError>,
    },
}

/// Why one copy failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The object store has no such object.
    #[error("its object is gone")]
    ObjectGone,
    /// The object is not what was stored.
    #[error("its object has {stored_bytes} bytes instead of {expected_bytes}")]
    WrongSize {
        /// Bytes that it should have.
        expected_bytes: u64,
        /// Bytes that it has.
        stored_bytes: u64,
    },
    /// Store or folder took too long for one piece.
    #[error("the copy stood still for too long")]
    Stalled,
    /// There is no room, and nothing more can be evicted.
    #[error(
        "it needs {needed_bytes} bytes; there is room for {available_bytes}, and files of {in_use_bytes} bytes are \
         in use"
    )]
    NoRoom {
        /// How many bytes it needs.
        needed_bytes: u64,
        /// How many there is room for.
        available_bytes: u64,
        /// How many bytes the files have that runs need at the moment, or that
        /// are just being installed.
        in_use_bytes: u64,
    },
    /// What was in use could not be looked up.
    #[error("what may be evicted could not be looked up")]
    Repo(#[source] RepoError),
    /// The object store failed.
    #[error(transparent)]
    Blob(BlobError),
    /// The folder failed.
    #[error(transparent)]
    Folder(#[from] LoraFolderError),
}

impl From<BlobError> for CopyError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::NotFound(_) => Self::ObjectGone,
            other => Self::Blob(other),
        }
    }
}

impl CopyError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Blob(BlobError::Unavailable(_))
            | Self::Repo(RepoError::Unavailable(_))
            | Self::Stalled => true,
            // When the runs that need them are over, they can go.
            Self::NoRoom {
                needed_bytes,
                available_bytes,
                in_use_bytes,
            } => *needed_bytes <= available_bytes.saturating_add(*in_use_bytes),
            _ => false,
        }
    }
}

impl LoraSyncError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Folder(_) | Self::NeverFits { .. } => false,
            Self::Repo(error) => matches!(**error, RepoError::Unavailable(_)),
            Self::Copy { cause, .. } => cause.is_transient(),
        }
    }
}
