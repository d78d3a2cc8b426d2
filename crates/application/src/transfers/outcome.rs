use std::time::Duration;

use atelier_domain::lora::LoraFailure;
use atelier_domain::ports::{BlobError, RemoteError, RepoError};

use crate::loras::UploadLoraError;

/// Why a transfer did not come to its end.
#[derive(Debug)]
pub(super) enum Trouble {
    /// Another has the claim, or the owner deleted the LoRA.
    ClaimLost,
    /// Where the bytes lie, they cannot be had.
    Remote(RemoteError),
    /// The bytes are no LoRA, or could not be stored.
    Intake(UploadLoraError),
    /// A piece of the upload is gone or damaged.
    PieceLost,
    /// The bytes changed again and again while they came.
    KeepsChanging,
}

/// What follows.
pub(super) enum Verdict {
    Nothing,
    Fail(LoraFailure),
    Postpone(Duration),
}

impl Trouble {
    /// What follows the `attempt`th of at most `attempts`. What is held cannot be
    /// put off: its credential is kept nowhere.
    pub(super) fn verdict(&self, attempt: u32, attempts: u32, is_held: bool) -> Verdict {
        if matches!(self, Self::ClaimLost) {
            return Verdict::Nothing;
        }
        if self.is_transient() && !is_held && attempt < attempts {
            let doubled = Duration::from_secs(5) * 2_u32.saturating_pow(attempt.min(7));
            let asked = match self {
                Self::Remote(RemoteError::Unavailable { retry_after, .. }) => *retry_after,
                _ => None,
            };
            return Verdict::Postpone(asked.unwrap_or(doubled).min(Duration::from_hours(1)));
        }
        Verdict::Fail(self.failure())
    }

    fn is_transient(&self) -> bool {
        match self {
            Self::ClaimLost | Self::PieceLost | Self::KeepsChanging => false,
            Self::Remote(error) => matches!(error, RemoteError::Unavailable { .. }),
            Self::Intake(error) => error.is_transient(),
        }
    }

    fn failure(&self) -> LoraFailure {
        let (code, message) = match self {
            Self::Intake(error) => return error.failure(),
            Self::ClaimLost | Self::PieceLost => (
                "upload_damaged",
                "a piece of the upload was lost before the whole was put together; upload the file again"
                    .to_owned(),
            ),
            Self::KeepsChanging => (
                "source_changed",
                "the file was changed again and again while it was imported; import it when it is finished"
                    .to_owned(),
            ),
            Self::Remote(error) => (remote_code(error), remote_words(error)),
        };
        LoraFailure {
            code: code.to_owned(),
            message,
        }
    }
}

/// Why a transfer with somebody's own credential ends with its process.
pub(super) fn credential_gone() -> LoraFailure {
    LoraFailure {
        code: "credential_gone".to_owned(),
        message: "the server was stopped before the file was there, and keeps no credentials; send the import again"
            .to_owned(),
    }
}

fn remote_code(error: &RemoteError) -> &'static str {
    match error {
        RemoteError::NotFound(_) => "source_not_found",
        RemoteError::Unauthorized(_) => "source_unauthorized",
        RemoteError::NotConfigured(_) => "source_not_configured",
        RemoteError::Changed => "source_changed",
        RemoteError::Unavailable { .. } => "source_unavailable",
        _ => "source_refused",
    }
}

fn remote_words(error: &RemoteError) -> String {
    match error {
        RemoteError::Unavailable { .. } => {
            "the file could not be reached, however often it was tried; import it again later"
                .to_owned()
        }
        RemoteError::Backend(_) => {
            "where the file lies, the answers make no sense; import it again later".to_owned()
        }
        told => told.to_string(),
    }
}

impl From<UploadLoraError> for Trouble {
    fn from(error: UploadLoraError) -> Self {
        Self::Intake(error)
    }
}

impl From<RepoError> for Trouble {
    fn from(error: RepoError) -> Self {
        Self::Intake(UploadLoraError::Repo(error))
    }
}

impl From<BlobError> for Trouble {
    fn from(error: BlobError) -> Self {
        Self::Intake(UploadLoraError::Blob(error))
    }
}
