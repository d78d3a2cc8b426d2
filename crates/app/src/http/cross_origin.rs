//! Which other sites' pages may use the API (CORS, <https://fetch.spec.whatwg.org/#http-cors-protocol>).

use actix_cors::Cors;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT, ACCEPT_RANGES, AUTHORIZATION, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_TYPE, ETAG,
    HeaderName, IF_MATCH, IF_NONE_MATCH, LINK, LOCATION, RANGE, RETRY_AFTER, WWW_AUTHENTICATE,
};

use super::{lent_token, rate_limit, tus};

/// How long a browser may remember what it may ask, in seconds.
const PREFLIGHT_AGE: usize = 3_600;

/// What pages may send besides what every page may.
fn allowed_headers() -> Vec<HeaderName> {
    let mut headers = vec![
        ACCEPT,
        AUTHORIZATION,
        CONTENT_TYPE,
        IF_MATCH,
        IF_NONE_MATCH,
        RANGE,
        HeaderName::from_static("idempotency-key"),
        HeaderName::from_static("last-event-id"),
        HeaderName::from_static("traceparent"),
        HeaderName::from_static("x-request-id"),
    ];
    headers.extend(lent_token::LENT_TOKENS);
    headers.extend(tus::HEADERS);
    headers
}

/// What pages may read besides what every page may.
fn exposed_headers() -> Vec<HeaderName> {
    let mut headers = vec![
        ACCEPT_RANGES,
        CONTENT_DISPOSITION,
        CONTENT_RANGE,
        ETAG,
        LINK,
        LOCATION,
        RETRY_AFTER,
        WWW_AUTHENTICATE,
        HeaderName::from_static("x-request-id"),
    ];
    headers.extend(tus::HEADERS);
    headers.extend(rate_limit::HEADERS);
    headers
}

/// Lets pages of these origins in, such as `https://studio.example`. No cookie
/// ever comes from them: they send a token.
pub(crate) fn policy(origins: &[String]) -> Cors {
    let policy = Cors::default()
        .allowed_methods([
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::PATCH,
            Method::DELETE,
            Method::OPTIONS,
        ])
        .allowed_headers(allowed_headers())
        .expose_headers(exposed_headers())
        // Somebody else's page is answered, and its browser keeps the answer from it.
        .block_on_origin_mismatch(false)
        .max_age(PREFLIGHT_AGE);
    origins.iter().fold(policy, |policy, origin| {
        if origin == "*" {
            policy.allow_any_origin().send_wildcard()
        } else {
            policy.allowed_origin(origin)
        }
    })
}
