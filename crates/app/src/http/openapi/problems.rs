//! The answers that are problems, one a status.

use std::collections::BTreeSet;

use actix_web::http::StatusCode;
use utoipa::ToResponse;
use utoipa::openapi::extensions::Extensions;
use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::{
    Components, Content, KnownFormat, ObjectBuilder, Ref, RefOr, Response, ResponseBuilder,
    SchemaFormat, Type,
};

use crate::http::problem::{PROBLEM_JSON, ProblemCode};

/// The header of every answer, by its name in the document.
pub(super) const REQUEST_ID: &str = "RequestId";

/// A problem, as operations name it: `(status = 409, response = ProblemResponse)`.
/// The document then names the problems of that very status.
#[derive(Debug)]
pub(crate) struct ProblemResponse;

/// What [`ProblemResponse`] is called until its status is known.
const ANY: &str = "Problem";

impl<'r> ToResponse<'r> for ProblemResponse {
    fn response() -> (&'r str, RefOr<Response>) {
        (ANY, RefOr::T(Response::new("")))
    }
}

/// The reference to the problems of a status.
pub(super) fn problems_of(status: &str) -> RefOr<Response> {
    RefOr::Ref(Ref::from_response_name(format!("{ANY}{status}")))
}

/// Whether a response is [`ProblemResponse`], of no certain status yet.
pub(super) fn is_any(response: &RefOr<Response>) -> bool {
    matches!(response, RefOr::Ref(reference) if *reference == Ref::from_response_name(ANY))
}

/// Describes the problems of every status that there is one of.
pub(super) fn describe(components: &mut Components) {
    let statuses: BTreeSet<StatusCode> =
        ProblemCode::ALL.iter().map(|code| code.status()).collect();
    for status in statuses {
        let name = format!("{ANY}{}", status.as_u16());
        components
            .responses
            .insert(name, RefOr::T(response(status)));
    }
    components
        .headers
        .insert(REQUEST_ID.to_owned(), RefOr::T(request_id()));
}

fn response(status: StatusCode) -> Response {
    let codes: Vec<String> = ProblemCode::ALL
        .iter()
        .filter(|code| code.status() == status)
        .map(|code| format!("`{}`", code.slug()))
        .collect();
    let reason = status.canonical_reason().unwrap_or_default();
    let description = format!("{reason}: the member `code` is {}.", codes.join(" or "));
    let response = ResponseBuilder::new()
        .description(description)
        .content(PROBLEM_JSON, Content::new(Some(Ref::from_schema_name(ANY))));
    let request_id = Ref::new(format!("#/components/headers/{REQUEST_ID}"));
    let response = response.header_ref("X-Request-Id", request_id);
    headers(status)
        .into_iter()
        .fold(response, |response, (name, header)| {
            response.header(name, header)
        })
        .build()
}

fn headers(status: StatusCode) -> Vec<(&'static str, Header)> {
    let retry = "When to try again, in seconds from now.";
    match status {
        StatusCode::UNAUTHORIZED => {
            let challenge = header(Type::String, "How to sign in (RFC 6750).");
            vec![("WWW-Authenticate", always(challenge))]
        }
        StatusCode::FORBIDDEN => {
            let challenge = "The scope that a personal token lacks (RFC 6750).";
            vec![("WWW-Authenticate", header(Type::String, challenge))]
        }
        StatusCode::PRECONDITION_FAILED => vec![
            ("ETag", header(Type::String, "The revision that there is.")),
            (
                "Tus-Version",
                header(
                    Type::String,
                    "The version of the upload protocol that is known.",
                ),
            ),
        ],
        StatusCode::RANGE_NOT_SATISFIABLE => {
            let size = header(Type::String, "How many bytes there are: `bytes */{size}`.");
            vec![("Content-Range", always(size))]
        }
        StatusCode::TOO_MANY_REQUESTS => vec![
            ("Retry-After", always(count(retry))),
            ("RateLimit", header(Type::String, "What is left.")),
            (
                "RateLimit-Policy",
                header(Type::String, "What there is in all."),
            ),
        ],
        StatusCode::SERVICE_UNAVAILABLE => vec![("Retry-After", count(retry))],
        StatusCode::CONFLICT => vec![
            ("Retry-After", count(retry)),
            (
                "Upload-Offset",
                count("How many bytes of the upload are there."),
            ),
        ],
        StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT => vec![(
            "Upload-Offset",
            count("How many bytes of the upload were kept."),
        )],
        _ => Vec::new(),
    }
}

fn request_id() -> Header {
    let id = ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::Uuid)))
        .build();
    let header = HeaderBuilder::new()
        .schema(Some(id))
        .description(Some("Names the request; the log has it too."));
    always(header.build())
}

fn header(schema_type: Type, description: &str) -> Header {
    let schema = ObjectBuilder::new().schema_type(schema_type).build();
    HeaderBuilder::new()
        .schema(Some(schema))
        .description(Some(description))
        .build()
}

fn count(description: &str) -> Header {
    let schema = ObjectBuilder::new()
        .schema_type(Type::Integer)
        .minimum(Some(0))
        .build();
    HeaderBuilder::new()
        .schema(Some(schema))
        .description(Some(description))
        .build()
}

/// Says that a header is always there.
pub(super) fn always(mut header: Header) -> Header {
    // The specification has this member; the crate knows it only as an extension.
    header.extensions = Some(Extensions::from_iter([("required", true)]));
    header
}
