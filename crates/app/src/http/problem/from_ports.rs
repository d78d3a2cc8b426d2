//! What the errors of ports and use cases become on the wire.

use std::time::Duration;

use actix_web::http::header::HeaderValue;
use atelier_application::identity::{CreateTokenError, SignInError};
use atelier_application::inputs::UploadInputError;
use atelier_application::loras::{ImportLoraError, ResumableError, UploadLoraError};
use atelier_application::runs::{EnqueueError, PreflightError, RetryRunError, SubmitRunError};
use atelier_application::workflows::WorkflowError;
use atelier_domain::ids::LoraId;
use atelier_domain::ports::{BlobError, Conflict, MAX_API_TOKENS, RepoError};
use atelier_domain::usage::QuotaExceeded;
use serde_json::Value;

use super::{Problem, ProblemCode};
use crate::http::tus::UPLOAD_OFFSET;

const DATABASE_DOWN: &str = "The database cannot be reached just now.";

/// How long it may take to answer a request.
const RETRY_AFTER_UNDERWAY: Duration = Duration::from_secs(1);

/// When an import may have ended: large files take minutes.
const RETRY_AFTER_IMPORTS: Duration = Duration::from_secs(30);

/// When a place in the queue may have become free: runs take seconds.
const RETRY_AFTER_QUEUE_FULL: Duration = Duration::from_secs(5);

impl From<RepoError> for Problem {
    fn from(error: RepoError) -> Self {
        match error {
            RepoError::Unavailable(_) => Self::unavailable(DATABASE_DOWN).because(error),
            RepoError::Conflict(Conflict::LoraFilename) => lora_filename_taken(None),
            RepoError::Conflict(_) => Self::new(
                ProblemCode::Conflict,
                "Something with the same key is stored already; try again.",
            )
            .because(error),
            RepoError::AccountGone => Self::unauthenticated(
                "Bearer realm=\"atelier\", error=\"invalid_token\"",
                "Your account was deleted: nothing can be stored for you.",
            )
            .because(error),
            error => Self::internal(error),
        }
    }
}

impl From<BlobError> for Problem {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::Unavailable(_) => {
                Self::unavailable("The object store cannot be reached just now.").because(error)
            }
            BlobError::Full(_) => Self::new(
                ProblemCode::StorageFull,
                "The object store has no room left.",
            )
            .because(error),
            BlobError::Refused(_) | BlobError::Backend(_) => {
                Self::new(ProblemCode::UpstreamFailed, "The object store failed.").because(error)
            }
            error => Self::internal(error),
        }
    }
}

impl From<SignInError> for Problem {
    fn from(error: SignInError) -> Self {
        match error {
            SignInError::Missing => Self::unauthenticated(
                "Bearer realm=\"atelier\"",
                "Send an access token in the header `Authorization: Bearer <token>`.",
            ),
            SignInError::Refused(reason) => {
                Self::unauthenticated("Bearer realm=\"atelier\", error=\"invalid_token\"", reason)
            }
            SignInError::Unavailable(_) => {
                Self::unavailable("The identity provider cannot be reached just now.")
                    .because(error)
            }
            SignInError::Repo(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<CreateTokenError> for Problem {
    fn from(error: CreateTokenError) -> Self {
        match error {
            CreateTokenError::Invalid(violations) => Self::validation(violations),
            CreateTokenError::TooMany => Self::new(
                ProblemCode::TooManyTokens,
                format!("You have {MAX_API_TOKENS} personal tokens; delete one first."),
            ),
            CreateTokenError::NotSignedIn => Self::new(
                ProblemCode::Forbidden,
                "A personal token cannot make others.",
            ),
            CreateTokenError::Repo(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<WorkflowError> for Problem {
    fn from(error: WorkflowError) -> Self {
        match error {
            WorkflowError::Invalid(violations) => Self::validation(violations),
            WorkflowError::Repo(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<SubmitRunError> for Problem {
    fn from(error: SubmitRunError) -> Self {
        match error {
            SubmitRunError::WorkflowNotFound => Self::workflow_not_found(),
            SubmitRunError::Invalid(violations) => Self::validation(violations),
            SubmitRunError::Enqueue(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<RetryRunError> for Problem {
    fn from(error: RetryRunError) -> Self {
        match error {
            RetryRunError::NotFound => Self::run_not_found(),
            RetryRunError::NotFinished(status) => Self::new(
                ProblemCode::RunNotFinished,
                format!(
                    "The run is {}; wait for its end, or cancel it.",
                    status.as_str()
                ),
            ),
            RetryRunError::Invalid(violations) => Self::validation(violations),
            RetryRunError::Enqueue(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<EnqueueError> for Problem {
    fn from(error: EnqueueError) -> Self {
        match error {
            EnqueueError::KeyReused => idempotency_key_reused(),
            EnqueueError::KeyUnderway => idempotency_key_in_use(),
            EnqueueError::TooManyPending { limit } => Self::new(
                ProblemCode::TooManyPendingRuns,
                format!(
                    "{limit} of your runs are waiting, and no more may; try again when one of them has begun, or cancel some."
                ),
            )
            .retry_after(RETRY_AFTER_QUEUE_FULL),
            EnqueueError::Quota(exceeded) => quota_exceeded(&exceeded),
            EnqueueError::Repo(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

/// A person's quota is full.
pub(crate) fn quota_exceeded(exceeded: &QuotaExceeded) -> Problem {
    Problem::new(
        ProblemCode::QuotaExceeded,
        format!("{}; delete some first.", capitalized(&exceeded.to_string())),
    )
}

fn capitalized(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or_else(String::new, |first| {
        first.to_uppercase().chain(characters).collect()
    })
}

impl From<UploadLoraError> for Problem {
    fn from(error: UploadLoraError) -> Self {
        match error {
            UploadLoraError::Invalid(violations) => Self::validation(violations),
            UploadLoraError::NotSafetensors(reason) | UploadLoraError::WrongBytes(reason) => {
                Self::invalid("/file", reason)
            }
            UploadLoraError::TooLarge { limit_bytes } => {
                Self::too_large("A LoRA file", limit_bytes)
            }
            UploadLoraError::Quota(exceeded) => quota_exceeded(&exceeded),
            UploadLoraError::FilenameTaken { existing } => lora_filename_taken(existing),
            UploadLoraError::ReservationLost => Self::new(
                ProblemCode::Conflict,
                "The LoRA was deleted while it was being uploaded, or its bytes came too slowly; send it again.",
            ),
            UploadLoraError::Repo(error) => error.into(),
            UploadLoraError::Blob(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<UploadInputError> for Problem {
    fn from(error: UploadInputError) -> Self {
        match error {
            UploadInputError::Invalid(violations) => Self::validation(violations),
            UploadInputError::NotAPicture(reason) => Self::invalid("/file", reason),
            UploadInputError::TooLarge { limit_bytes } => {
                Self::too_large("An input file", limit_bytes)
            }
            UploadInputError::Quota(exceeded) => quota_exceeded(&exceeded),
            UploadInputError::Repo(error) => error.into(),
            UploadInputError::Blob(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<ImportLoraError> for Problem {
    /// What is wrong where the file lies, the endpoint knows better how to tell.
    fn from(error: ImportLoraError) -> Self {
        match error {
            ImportLoraError::Invalid(violations) => Self::validation(violations),
            ImportLoraError::TooLarge { limit_bytes } => {
                Self::too_large("A LoRA file", limit_bytes)
            }
            ImportLoraError::Quota(exceeded) => quota_exceeded(&exceeded),
            ImportLoraError::FilenameTaken { existing } => lora_filename_taken(existing),
            ImportLoraError::TooMany { limit } => Self::new(
                ProblemCode::TooManyImports,
                format!(
                    "{limit} of your imports are under way, and no more may; try again when one of them has ended, or delete some."
                ),
            )
            .retry_after(RETRY_AFTER_IMPORTS),
            ImportLoraError::KeyReused => idempotency_key_reused(),
            ImportLoraError::KeyUnderway => idempotency_key_in_use(),
            ImportLoraError::Repo(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<ResumableError> for Problem {
    fn from(error: ResumableError) -> Self {
        match error {
            ResumableError::NotFound => Self::upload_not_found(),
            ResumableError::Gone => Self::new(
                ProblemCode::UploadGone,
                "The upload failed, was deleted, or waited too long for its next bytes; begin a new one.",
            ),
            ResumableError::Complete => Self::new(
                ProblemCode::UploadComplete,
                "All bytes of the upload are there: it is a LoRA now, under the same id.",
            ),
            ResumableError::Elsewhere { offset } => Self::new(
                ProblemCode::UploadOffsetMismatch,
                format!("The upload is at byte {offset}; go on from there."),
            )
            .with_header(UPLOAD_OFFSET, HeaderValue::from(offset)),
            ResumableError::TooLong { length } => Self::new(
                ProblemCode::PayloadTooLarge,
                format!("The upload has {length} bytes in all, and more came."),
            ),
            ResumableError::TooManyPieces { limit } => Self::new(
                ProblemCode::Conflict,
                format!(
                    "The upload came in more than {limit} pieces; begin it again, with larger requests."
                ),
            ),
            ResumableError::Upload(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

impl From<PreflightError> for Problem {
    fn from(error: PreflightError) -> Self {
        match error {
            PreflightError::WorkflowNotFound => Self::workflow_not_found(),
            PreflightError::Repo(error) => error.into(),
            error => Self::internal(error),
        }
    }
}

fn idempotency_key_reused() -> Problem {
    Problem::new(
        ProblemCode::IdempotencyKeyReused,
        "This Idempotency-Key came with another body within the last 24 hours; a new request needs a new key.",
    )
}

fn idempotency_key_in_use() -> Problem {
    Problem::new(
        ProblemCode::IdempotencyKeyInUse,
        "A request with this Idempotency-Key is being answered at this moment; send it again to get that answer.",
    )
    .retry_after(RETRY_AFTER_UNDERWAY)
}

/// `existing` is the LoRA that has the name, unless its bytes are still on
/// their way.
fn lora_filename_taken(existing: Option<LoraId>) -> Problem {
    match existing {
        Some(id) => Problem::new(
            ProblemCode::LoraFilenameTaken,
            "Send `replace=true` to make the file a new version of that LoRA, or send it under another name.",
        )
        .with_member("existing", Value::String(id.to_string())),
        None => Problem::new(
            ProblemCode::LoraFilenameTaken,
            "A file of that name is on its way already; wait for its end, delete it, or send this one under another name.",
        ),
    }
}

/// What is somebody else's is as absent as what never was.
impl Problem {
    pub(crate) fn workflow_not_found() -> Self {
        Self::new(
            ProblemCode::WorkflowNotFound,
            "No workflow of this id is yours or public.",
        )
    }

    pub(crate) fn run_not_found() -> Self {
        Self::new(ProblemCode::RunNotFound, "No run of this id is yours.")
    }

    pub(crate) fn lora_not_found() -> Self {
        Self::new(ProblemCode::LoraNotFound, "No LoRA of this id is yours.")
    }

    pub(crate) fn input_not_found() -> Self {
        Self::new(
            ProblemCode::InputNotFound,
            "No input file of this id is yours.",
        )
    }

    pub(crate) fn upload_not_found() -> Self {
        Self::new(
            ProblemCode::UploadNotFound,
            "No upload of this id is yours.",
        )
    }

    pub(crate) fn output_not_found() -> Self {
        Self::new(
            ProblemCode::OutputNotFound,
            "The member `outputs` of the run lists what there is.",
        )
    }
}
