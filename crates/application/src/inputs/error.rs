use atelier_domain::ports::{BlobError, RepoError};
use atelier_domain::usage::QuotaExceeded;
use atelier_domain::validation::Violation;
use thiserror::Error;

use crate::allowance::AllowanceError;

/// Why a picture was not taken in.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum UploadInputError {
    /// What is wrong with the file's name; pointer `/file`.
    #[error("the file is not valid")]
    Invalid(Vec<Violation>),
    /// The bytes are no picture that is taken; the text says why, in words for
    /// their sender.
    #[error("{0}")]
    NotAPicture(String),
    /// The file is larger than allowed.
    #[error("the file has more than {limit_bytes} bytes")]
    TooLarge {
        /// How many bytes a file may have.
        limit_bytes: u64,
    },
    /// The actor's pictures would take more than they may.
    #[error(transparent)]
    Quota(QuotaExceeded),
    /// The repository failed.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The object store failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl From<AllowanceError> for UploadInputError {
    fn from(error: AllowanceError) -> Self {
        match error {
            AllowanceError::Exceeded(exceeded) => Self::Quota(exceeded),
            AllowanceError::Repo(error) => Self::Repo(error),
        }
    }
}
