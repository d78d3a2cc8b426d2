//! What refuses a request before it reaches a route: the pretended proxy, and the guard against foreign web pages.

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::reply;
use super::request::Parameters;
use crate::faults::Faults;
use crate::instance::Instance;
use crate::options::{Credentials, Front};

/// The refusal of the proxy, unless the request has the right credentials.
pub(super) fn refuse(instance: &Instance, faults: &Faults, request: &Request) -> Option<Response> {
    let credentials = instance.options.credentials.as_ref();
    let front = faults.front.or(credentials.map(|_| Front::Unauthorized))?;
    if credentials.is_some_and(|credentials| opens(credentials, request)) {
        return None;
    }
    Some(match front {
        Front::Redirect => with_header(reply::empty(StatusCode::FOUND), header::LOCATION, "/login"),
        Front::Unauthorized => {
            let response = reply::text(StatusCode::UNAUTHORIZED, "401 Unauthorized".to_owned());
            with_header(
                response,
                header::WWW_AUTHENTICATE,
                "Basic realm=\"ComfyUI\"",
            )
        }
    })
}

fn with_header(mut response: Response, name: header::HeaderName, value: &'static str) -> Response {
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static(value));
    response
}

fn opens(credentials: &Credentials, request: &Request) -> bool {
    let authorization = text(request.headers(), &header::AUTHORIZATION).unwrap_or_default();
    let basic = credentials.basic.as_ref().is_some_and(|(user, password)| {
        authorization.strip_prefix("Basic ")
            == Some(STANDARD.encode(format!("{user}:{password}")).as_str())
    });
    let token = credentials.token.as_deref().is_some_and(|token| {
        authorization.strip_prefix("Bearer ") == Some(token)
            || Parameters::of(request.uri()).get("token") == Some(token)
    });
    basic || token
}

/// 403 for a browser page of another site: a loopback `Host` with the `Origin` of another host or port.
pub(super) fn refuse_foreign_origin(instance: &Instance, request: &Request) -> Option<Response> {
    let headers = request.headers();
    let cross_site = headers
        .get("sec-fetch-site")
        .is_some_and(|site| site == "cross-site");
    if cross_site && instance.options.version.is_current() {
        return Some(reply::empty(StatusCode::FORBIDDEN));
    }
    let host = text(headers, &header::HOST)?.to_ascii_lowercase();
    let origin = text(headers, &header::ORIGIN)?.to_ascii_lowercase();
    let origin = origin
        .split_once("://")
        .map_or("", |(_, authority)| authority);
    let origin = origin.split('/').next().unwrap_or_default();
    let ((host_name, host_port), (origin_name, origin_port)) =
        (split_port(&host), split_port(origin));
    // Where one side names no port, only the names count.
    let same = host_name == origin_name
        && (host_port.is_none() || origin_port.is_none() || host_port == origin_port);
    let foreign = is_loopback(host_name) && !origin_name.is_empty() && !same;
    foreign.then(|| reply::empty(StatusCode::FORBIDDEN))
}

fn text<'headers>(
    headers: &'headers HeaderMap,
    name: &header::HeaderName,
) -> Option<&'headers str> {
    headers.get(name)?.to_str().ok()
}

fn split_port(authority: &str) -> (&str, Option<&str>) {
    match authority.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => (name, Some(port)),
        _ => (authority, None),
    }
}

fn is_loopback(name: &str) -> bool {
    let name = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
