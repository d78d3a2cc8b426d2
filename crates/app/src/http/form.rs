//! Forms, read while they come.

use actix_multipart::{Field, MultipartError};
use actix_web::HttpRequest;
use actix_web::http::header::DispositionParam;
use futures_util::{Stream, StreamExt as _};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::api::{Api, FORM_SLACK_BYTES, Limits};
use super::json::{broken_body, content_length, too_slow};
use super::problem::{Problem, ProblemCode};

/// The most fields: each has a price even if it is empty.
pub(crate) const MAX_FIELDS: usize = 200;

/// Refuses a body that says itself that the file in it is too large, before it
/// is read.
pub(crate) fn refuse_oversized(
    request: &HttpRequest,
    what: &str,
    file_bytes: u64,
) -> Result<(), Problem> {
    match content_length(request.headers()) {
        Some(length) if length > file_bytes.saturating_add(FORM_SLACK_BYTES) => {
            Err(Problem::too_large(what, file_bytes))
        }
        _ => Ok(()),
    }
}

/// How long the pieces of a form are waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pieces<'a> {
    limits: &'a Limits,
    giving_up: &'a CancellationToken,
}

impl<'a> Pieces<'a> {
    pub(crate) fn of(api: &'a Api) -> Self {
        Self {
            limits: api.limits(),
            giving_up: api.giving_up(),
        }
    }

    /// Waits for the next piece, for a bounded time.
    pub(crate) async fn next<T>(
        &self,
        stream: &mut (impl Stream<Item = Result<T, MultipartError>> + Unpin),
    ) -> Result<Option<T>, Problem> {
        let next = tokio::select! {
            biased;
            () = self.giving_up.cancelled() => return Err(Problem::server_stops()),
            next = timeout(self.limits.chunk_wait, stream.next()) => next,
        };
        match next {
            Ok(piece) => piece.transpose().map_err(broken_form),
            Err(_elapsed) => Err(too_slow()),
        }
    }
}

/// The file's name as its sender wrote it; RFC 7578 section 4.2 has it in
/// `filename`, some clients also in `filename*`.
pub(crate) fn filename(field: &Field) -> Option<String> {
    let disposition = field.content_disposition()?;
    let extended = disposition
        .parameters
        .iter()
        .find_map(|parameter| match parameter {
            DispositionParam::FilenameExt(value) => String::from_utf8(value.value.clone()).ok(),
            _ => None,
        });
    extended.or_else(|| disposition.get_filename().map(str::to_owned))
}

fn broken_form(error: MultipartError) -> Problem {
    match error {
        MultipartError::ContentTypeMissing
        | MultipartError::ContentTypeParse
        | MultipartError::ContentTypeIncompatible => Problem::new(
            ProblemCode::UnsupportedMediaType,
            "Send multipart/form-data, and say so in the header `Content-Type`.",
        ),
        MultipartError::Payload(error) => broken_body(&error),
        error => Problem::new(
            ProblemCode::InvalidMultipart,
            format!("The form is malformed or incomplete: {error}."),
        ),
    }
}
