//! Problems: what every error looks like on the wire (RFC 9457).

mod code;
mod from_ports;

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::time::Duration;

use actix_web::body::BoxBody;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    ALLOW, CONTENT_RANGE, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER, WWW_AUTHENTICATE,
};
use actix_web::{HttpResponse, ResponseError};
use atelier_domain::validation::Violation;
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use super::openapi::values::ProblemWord;
use crate::telemetry::current_trace_id;

pub use code::ProblemCode;

/// The media type of RFC 9457.
pub(crate) const PROBLEM_JSON: &str = "application/problem+json";

/// When to try again after something was unreachable.
const RETRY_AFTER_OUTAGE: Duration = Duration::from_secs(2);

/// When to try again after a server stopped: others are there, or it is back soon.
const RETRY_AFTER_STOP: Duration = Duration::from_secs(1);

/// An error on its way to the client: what the client reads, and what the log
/// gets.
#[derive(Debug)]
pub struct Problem(Box<Parts>);

#[derive(Debug)]
struct Parts {
    code: ProblemCode,
    detail: Cow<'static, str>,
    errors: Vec<Violation>,
    members: Map<String, Value>,
    headers: Vec<(HeaderName, HeaderValue)>,
    instance: Option<Uuid>,
    cause: Option<Box<dyn Error + Send + Sync>>,
}

impl Problem {
    pub(crate) fn new(code: ProblemCode, detail: impl Into<Cow<'static, str>>) -> Self {
        Self(Box::new(Parts {
            code,
            detail: detail.into(),
            errors: Vec::new(),
            members: Map::new(),
            headers: Vec::new(),
            instance: None,
            cause: None,
        }))
    }

    /// A defect of ours: the client learns nothing but the request's id.
    pub(crate) fn internal(cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(
            ProblemCode::Internal,
            "The server failed. The log has the reason under this request's id.",
        )
        .because(cause)
    }

    /// Everything that is wrong with a request.
    pub(crate) fn validation(errors: Vec<Violation>) -> Self {
        let detail = match errors.as_slice() {
            [only] if only.pointer.is_empty() => format!("The body {}.", only.detail),
            [only] => format!("{} {}.", only.pointer, only.detail),
            several => format!("{} things are wrong; see errors.", several.len()),
        };
        let mut problem = Self::new(ProblemCode::Validation, detail);
        problem.0.errors = errors;
        problem
    }

    /// One thing that is wrong with a request.
    pub(crate) fn invalid(pointer: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::validation(vec![Violation::new(pointer, detail)])
    }

    pub(crate) fn unauthenticated(
        challenge: &'static str,
        detail: impl Into<Cow<'static, str>>,
    ) -> Self {
        Self::new(ProblemCode::Unauthenticated, detail)
            .with_header(WWW_AUTHENTICATE, HeaderValue::from_static(challenge))
    }

    pub(crate) fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ProblemCode::Unavailable, detail).retry_after(RETRY_AFTER_OUTAGE)
    }

    /// The server stops before it is done with the request: another one takes
    /// it, or this one when it is back.
    pub(crate) fn server_stops() -> Self {
        Self::new(
            ProblemCode::Unavailable,
            "The server stops. Send the request again: another one takes it.",
        )
        .retry_after(RETRY_AFTER_STOP)
    }

    pub(crate) fn method_not_allowed(allowed: &'static str) -> Self {
        Self::new(
            ProblemCode::MethodNotAllowed,
            format!("This address knows {allowed} alone."),
        )
        .with_header(ALLOW, HeaderValue::from_static(allowed))
    }

    /// `what` has more than `limit_bytes`.
    pub(crate) fn too_large(what: &str, limit_bytes: u64) -> Self {
        Self::new(
            ProblemCode::PayloadTooLarge,
            format!("{what} may have at most {limit_bytes} bytes."),
        )
    }

    pub(crate) fn range_not_satisfiable(size_bytes: u64) -> Self {
        let problem = Self::new(
            ProblemCode::RangeNotSatisfiable,
            format!("There are {size_bytes} bytes, from 0."),
        );
        match HeaderValue::try_from(format!("bytes */{size_bytes}")) {
            Ok(value) => problem.with_header(CONTENT_RANGE, value),
            Err(_impossible) => problem,
        }
    }

    /// Adds what happened inside, for the log alone.
    pub(crate) fn because(mut self, cause: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.cause = Some(cause.into());
        self
    }

    pub(crate) fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    pub(crate) fn with_errors(mut self, errors: Vec<Violation>) -> Self {
        self.0.errors = errors;
        self
    }

    /// Adds a member of our own to the document.
    pub(crate) fn with_member(mut self, name: &str, value: Value) -> Self {
        self.0.members.insert(name.to_owned(), value);
        self
    }

    pub(crate) fn retry_after(self, wait: Duration) -> Self {
        self.with_header(RETRY_AFTER, HeaderValue::from(wait.as_secs()))
    }

    pub(crate) fn code(&self) -> ProblemCode {
        self.0.code
    }

    #[cfg(test)]
    pub(crate) fn detail(&self) -> &str {
        &self.0.detail
    }

    pub(crate) fn cause(&self) -> Option<&(dyn Error + Send + Sync)> {
        self.0.cause.as_deref()
    }

    /// Names the request, for whoever reads log and answer side by side.
    pub(crate) fn with_instance(mut self, request: Uuid) -> Self {
        self.0.instance = Some(request);
        self
    }

    /// The problem that goes with a status which something else than us chose.
    pub(crate) fn of_status(status: StatusCode) -> Self {
        match status {
            StatusCode::NOT_FOUND => Self::nothing_here(),
            StatusCode::METHOD_NOT_ALLOWED => Self::method_not_allowed("other methods"),
            StatusCode::PAYLOAD_TOO_LARGE => Self::new(ProblemCode::PayloadTooLarge, "Send less."),
            StatusCode::UNSUPPORTED_MEDIA_TYPE => Self::new(
                ProblemCode::UnsupportedMediaType,
                "Send a body of another type.",
            ),
            StatusCode::REQUEST_TIMEOUT => {
                Self::new(ProblemCode::RequestTimeout, "Send the body faster.")
            }
            status if status.is_client_error() => Self::new(
                ProblemCode::BadRequest,
                "The request could not be understood.",
            ),
            status => Self::internal(format!("something answered {status} by itself")),
        }
    }

    pub(crate) fn nothing_here() -> Self {
        Self::new(
            ProblemCode::NotFound,
            "There is nothing at this address; /openapi.json lists what there is.",
        )
    }

    /// The document alone.
    #[cfg(test)]
    pub(crate) fn to_json(&self) -> Value {
        serde_json::to_value(self.document(None)).expect("it is plain data")
    }

    /// The answer as it goes out, to the request of this id.
    pub(crate) fn to_response(&self, request: Option<Uuid>) -> HttpResponse {
        let parts = &self.0;
        let mut response = HttpResponse::build(parts.code.status());
        for header in &parts.headers {
            response.append_header((header.0.clone(), header.1.clone()));
        }
        response
            .insert_header((CONTENT_TYPE, PROBLEM_JSON))
            .body(serde_json::to_vec(&self.document(request)).unwrap_or_default())
    }

    fn document(&self, request: Option<Uuid>) -> ProblemDocument<'_> {
        let parts = &self.0;
        ProblemDocument {
            r#type: format!("urn:atelier:problem:{}", parts.code.slug()),
            title: parts.code.title(),
            status: parts.code.status().as_u16(),
            detail: &parts.detail,
            instance: request.or(parts.instance).map(|id| id.urn().to_string()),
            code: parts.code.slug(),
            trace_id: current_trace_id(),
            errors: parts
                .errors
                .iter()
                .map(|violation| ProblemItem {
                    pointer: &violation.pointer,
                    detail: &violation.detail,
                })
                .collect(),
            members: &parts.members,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.0.code.slug(), self.0.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.0.code.status()
    }

    fn error_response(&self) -> HttpResponse<BoxBody> {
        self.to_response(None)
    }
}

/// What went wrong (RFC 9457).
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct ProblemDocument<'a> {
    /// Names the sort of problem, as a URI that is stable and leads nowhere.
    #[schema(example = "urn:atelier:problem:validation")]
    r#type: String,
    /// The sort of problem, for people.
    title: &'static str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// This very problem, for people.
    detail: &'a str,
    /// The request, as the header `X-Request-Id` names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "urn:uuid:01950000-0000-7000-8000-000000000001")]
    instance: Option<String>,
    /// The sort of problem, for programs.
    #[schema(value_type = ProblemWord)]
    code: &'static str,
    /// The trace that the request belongs to, where the server traces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "0af7651916cd43dd8448eb211c80319c")]
    trace_id: Option<String>,
    /// Everything that is wrong with the request, all at once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ProblemItem<'a>>,
    #[serde(flatten)]
    #[schema(ignore)]
    members: &'a Map<String, Value>,
}

/// One thing that is wrong with a request.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ProblemItem<'a> {
    /// Where: a JSON pointer (RFC 6901) into the body, `?name` for a query
    /// parameter, `{name}` for a segment of the path, `/name` for a field of a
    /// form.
    #[schema(example = "/workflow_json/10/inputs/lora_name")]
    pointer: &'a str,
    /// What is wrong, and what would be right.
    detail: &'a str,
}
