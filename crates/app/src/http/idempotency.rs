//! The header `Idempotency-Key`: requests that may be sent twice and are
//! carried out once (draft-ietf-httpapi-idempotency-key-header).

use std::future::{Ready, ready};

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{CONTENT_TYPE, HeaderName, HeaderValue, LOCATION};
use actix_web::{FromRequest, HttpRequest, HttpResponse};
use atelier_application::runs::{RunAnswer, Submission};
use atelier_domain::digest::Sha256Digest;
use atelier_domain::idempotency::{IdempotencyKey, IdempotentRequest, StoredAnswer};
use sha2::{Digest as _, Sha256};

use super::problem::{Problem, ProblemCode};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// What an answer that was given before is marked with.
const IDEMPOTENT_REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

/// A request that may bring a key, which is read when the handler asks: whoever
/// is not signed in learns that first.
#[derive(Debug)]
pub(crate) struct MayBeRepeated {
    method: String,
    keys: Vec<HeaderValue>,
}

impl FromRequest for MayBeRepeated {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Ok(Self {
            method: request.method().to_string(),
            keys: request
                .headers()
                .get_all(IDEMPOTENCY_KEY)
                .cloned()
                .collect(),
        }))
    }
}

impl MayBeRepeated {
    /// The request under its key, if it brought one. `path` is the address in
    /// its one spelling, `body` what was sent, as it was sent.
    ///
    /// # Errors
    /// `bad-request`, 400, for a key that is none, or several.
    pub(crate) fn request(
        &self,
        path: String,
        body: &[u8],
    ) -> Result<Option<IdempotentRequest>, Problem> {
        let key = match self.keys.as_slice() {
            [] => return Ok(None),
            [key] => key.to_str().ok().and_then(IdempotencyKey::parse),
            _ => None,
        };
        let key = key.ok_or_else(|| {
            Problem::new(
                ProblemCode::BadRequest,
                "Send the header `Idempotency-Key` once, with 1 to 255 visible ASCII characters, such as \"8e03978e-40d5\".",
            )
        })?;
        Ok(Some(IdempotentRequest {
            key,
            method: self.method.clone(),
            path,
            fingerprint: Sha256Digest::new(Sha256::digest(body).into()),
        }))
    }
}

/// Answers a request for a run: with what is stored, where something is, and
/// else with what `render` makes of the run.
pub(crate) fn submission_response(submission: Submission, render: RunAnswer<'_>) -> HttpResponse {
    match submission {
        Submission::Enqueued { run, answer } => {
            stored_response(answer.unwrap_or_else(|| render(&run)), false)
        }
        Submission::Replayed(answer) => stored_response(answer, true),
    }
}

/// Gives an answer out, and marks one that was given before.
pub(crate) fn stored_response(answer: StoredAnswer, is_replay: bool) -> HttpResponse {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    let mut response = HttpResponse::build(status);
    if let Some(location) = answer.location {
        response.insert_header((LOCATION, location));
    }
    if is_replay {
        response.insert_header((IDEMPOTENT_REPLAYED, "true"));
    }
    response
        .insert_header((CONTENT_TYPE, "application/json"))
        .body(answer.body)
}
