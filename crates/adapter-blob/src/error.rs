use std::error::Error;
use std::io::ErrorKind;

use atelier_domain::ports::{BlobError, BlobKey, Source};
use object_store::client::{HttpError, HttpErrorKind};
use thiserror::Error;

/// Enough for a status, a code and a sentence; stores answer with whole pages.
const MAX_TEXT_CHARS: usize = 600;

/// Turns the store's errors into those of the port.
#[derive(Debug)]
pub(crate) struct ErrorMap {
    hidden: Hidden,
}

/// What must not get into a text.
struct Hidden(Vec<String>);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("[hidden]")
    }
}

/// What the store said, cut, and without our keys: some stores answer a bad
/// signature with the access key and the text that they signed.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct StoreFailure(String);

/// A call that makes no sense.
#[derive(Debug, Error)]
#[error("{0}")]
pub(crate) struct Misuse(pub(crate) &'static str);

pub(crate) fn misuse(text: &'static str) -> BlobError {
    BlobError::Backend(Box::new(Misuse(text)))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    Absent,
    Unavailable,
    Full,
    Refused,
    Other,
}

impl ErrorMap {
    pub(crate) fn hiding(secrets: impl IntoIterator<Item = String>) -> Self {
        Self {
            hidden: Hidden(
                secrets
                    .into_iter()
                    .filter(|secret| !secret.is_empty())
                    .collect(),
            ),
        }
    }

    /// An error about an object that is asked for.
    pub(crate) fn reading(&self, key: &BlobKey, error: &object_store::Error) -> BlobError {
        match meaning(error) {
            Meaning::Absent => BlobError::NotFound(key.clone()),
            other => self.blob_error(other, error),
        }
    }

    /// An error about an object that is not there yet: what is not found is
    /// the bucket, or the upload.
    pub(crate) fn writing(&self, error: &object_store::Error) -> BlobError {
        match meaning(error) {
            Meaning::Absent if error.to_string().contains("NoSuchUpload") => {
                self.blob_error(Meaning::Other, error)
            }
            Meaning::Absent => self.blob_error(Meaning::Refused, error),
            other => self.blob_error(other, error),
        }
    }

    fn blob_error(&self, meaning: Meaning, error: &object_store::Error) -> BlobError {
        let source: Source = Box::new(StoreFailure(self.text(error)));
        match meaning {
            Meaning::Unavailable => BlobError::Unavailable(source),
            Meaning::Full => BlobError::Full(source),
            Meaning::Refused => BlobError::Refused(source),
            Meaning::Absent | Meaning::Other => BlobError::Backend(source),
        }
    }

    fn text(&self, error: &object_store::Error) -> String {
        let mut text = error.to_string();
        for secret in &self.hidden.0 {
            text = text.replace(secret, "[hidden]");
        }
        text.chars().take(MAX_TEXT_CHARS).collect()
    }
}

fn meaning(error: &object_store::Error) -> Meaning {
    let text = error.to_string();
    match error {
        object_store::Error::NotFound { .. } if text.contains("NoSuchBucket") => Meaning::Refused,
        object_store::Error::NotFound { .. } => Meaning::Absent,
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => Meaning::Refused,
        _ => by_cause(error)
            .or_else(|| by_status(&text))
            .unwrap_or(Meaning::Other),
    }
}

/// Judges by the first cause that says something.
fn by_cause(error: &object_store::Error) -> Option<Meaning> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<std::io::Error>() {
            match error.kind() {
                ErrorKind::StorageFull | ErrorKind::QuotaExceeded => return Some(Meaning::Full),
                ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => {
                    return Some(Meaning::Refused);
                }
                _ => {}
            }
        }
        if let Some(error) = error.downcast_ref::<HttpError>() {
            return match error.kind() {
                HttpErrorKind::Decode => Some(Meaning::Other),
                _ => Some(Meaning::Unavailable),
            };
        }
        cause = error.source();
    }
    None
}

/// Judges by the status that `object_store` writes into its text: its type for
/// it is not public. The codes are S3's, and `XMinioStorageFull` MinIO's.
fn by_status(text: &str) -> Option<Meaning> {
    let any = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if any(&["status code: 507", "XMinioStorageFull", "QuotaExceeded"]) {
        return Some(Meaning::Full);
    }
    if any(&[
        "InvalidAccessKeyId",
        "SignatureDoesNotMatch",
        "AuthorizationHeaderMalformed",
    ]) {
        return Some(Meaning::Refused);
    }
    any(&[
        "status code: 5",
        "status code: 429",
        "status code: 408",
        "SlowDown",
    ])
    .then_some(Meaning::Unavailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(source: impl Into<Source>) -> object_store::Error {
        object_store::Error::Generic {
            store: "S3",
            source: source.into(),
        }
    }

    #[test]
    fn causes_and_statuses_have_meanings() {
        let io = |kind: ErrorKind| generic(std::io::Error::from(kind));
        for (error, expected) in [
            (io(ErrorKind::StorageFull), Meaning::Full),
            (io(ErrorKind::PermissionDenied), Meaning::Refused),
            (io(ErrorKind::IsADirectory), Meaning::Other),
            (
                generic("Server returned non-2xx status code: 507 Insufficient Storage: "),
                Meaning::Full,
            ),
            (
                generic("Server returned non-2xx status code: 503 Service Unavailable: "),
                Meaning::Unavailable,
            ),
            (
                generic("status code: 400 Bad Request: <Code>AuthorizationHeaderMalformed</Code>"),
                Meaning::Refused,
            ),
            (
                generic(HttpError::new(HttpErrorKind::Connect, std::fmt::Error)),
                Meaning::Unavailable,
            ),
            (generic("status code: 416"), Meaning::Other),
        ] {
            assert_eq!(meaning(&error), expected, "{error}");
        }
    }

    #[test]
    fn keys_and_long_answers_do_not_get_into_the_text() {
        let errors = ErrorMap::hiding(["the-access-key".to_owned()]);
        let answer = format!(
            "<AWSAccessKeyId>the-access-key</AWSAccessKeyId>{}",
            "x".repeat(10_000)
        );

        let error = errors.writing(&generic(answer));

        let text = error.source().unwrap().to_string();
        assert!(
            text.contains("[hidden]") && !text.contains("the-access-key"),
            "{text}"
        );
        assert_eq!(text.chars().count(), MAX_TEXT_CHARS);
        assert!(!format!("{errors:?}").contains("the-access-key"));
    }
}
