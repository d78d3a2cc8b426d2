//! Every request gets an id, a span, a line in the log, and an answer that
//! names it.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, COOKIE, HeaderMap,
    HeaderName, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS, X_FRAME_OPTIONS,
};
use actix_web::middleware::Next;
use actix_web::{Error, ResponseError as _, web};
use futures_util::FutureExt as _;
use tracing::{Instrument as _, Span};
use uuid::Uuid;

use super::api::Api;
use super::auth::ACCESS_ASSERTION;
use super::lent_token::LENT_TOKENS;
use super::problem::{PROBLEM_JSON, Problem};
use super::rate_limit;
use crate::logging::Chain;
use crate::telemetry::{self, Metrics};

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The outermost middleware.
pub(crate) async fn observe(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    hide_secrets(request.headers_mut());
    let Some(api) = request.app_data::<web::Data<Api>>() else {
        return Err(Problem::internal("the application was built without its Api").into());
    };
    let id = api.ports().ids.new_id();
    let metrics = api.observation().metrics.clone();
    let span = tracing::info_span!(
        "request",
        request_id = %id,
        user_id = tracing::field::Empty,
        client_request_id = client_request_id(request.headers()),
        trace_id = tracing::field::Empty,
        otel.kind = tracing::field::Empty,
    );
    let is_traced = telemetry::begin_request(&span, trace_parent(request.headers()));
    let outcome = served(id, metrics, request, next)
        .instrument(span.clone())
        .await;
    if is_traced {
        trace(&span, &outcome);
    }
    outcome
}

/// The trace that the sender says the request belongs to.
fn trace_parent(headers: &HeaderMap) -> Option<&str> {
    headers.get("traceparent")?.to_str().ok()
}

fn trace(span: &Span, outcome: &Result<ServiceResponse<BoxBody>, Error>) {
    let Ok(response) = outcome else {
        // Only defects of ours, and nobody knows of which route.
        telemetry::end_request(span, "HTTP", None, 500);
        return;
    };
    let request = response.request();
    let route = request.match_pattern();
    let status = response.status().as_u16();
    telemetry::end_request(span, request.method().as_str(), route.as_deref(), status);
}

/// Whoever shows the headers shows no credential.
fn hide_secrets(headers: &mut HeaderMap) {
    // The cookie of Cloudflare Access is a credential too.
    let credentials = [AUTHORIZATION, ACCESS_ASSERTION, COOKIE];
    for name in credentials.iter().chain(&LENT_TOKENS) {
        if let Some(value) = headers.get_mut(name) {
            value.set_sensitive(true);
        }
    }
}

async fn served(
    id: Uuid,
    metrics: Metrics,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let method = request.method().clone();
    // One handler's panic must not take the other requests of its thread along.
    let outcome = AssertUnwindSafe(next.call(request)).catch_unwind().await;
    let fault = match outcome {
        Ok(Ok(response)) => {
            let mut response = with_problem(response.map_into_boxed_body(), id);
            add_headers(response.headers_mut(), id);
            let request = response.request().clone();
            rate_limit::tell(&request, response.headers_mut());
            let route = response.request().match_pattern();
            let line = Line {
                method: method.as_str(),
                route: route.as_deref().unwrap_or("none"),
                status: response.status().as_u16(),
                started,
            };
            line.log(response.response().error().and_then(Error::as_error));
            let (status, took) = (line.status, line.started.elapsed());
            metrics.request_answered(method.as_str(), route, status, took);
            return Ok(response);
        }
        Ok(Err(error)) => Problem::of_status(error.as_response_error().status_code()),
        Err(_panic) => Problem::internal("a handler panicked; the line before says where"),
    };
    let line = Line {
        method: method.as_str(),
        route: "none",
        status: fault.status_code().as_u16(),
        started,
    };
    line.log(Some(&fault));
    metrics.request_answered(line.method, None, line.status, line.started.elapsed());
    let header = HeaderValue::try_from(id.to_string()).map_err(Problem::internal)?;
    Err(fault
        .with_instance(id)
        .with_header(X_REQUEST_ID, header)
        .into())
}

/// Makes every error a problem document that names the request, also those
/// that the framework made by itself.
fn with_problem(response: ServiceResponse<BoxBody>, id: Uuid) -> ServiceResponse<BoxBody> {
    let status = response.status();
    if !status.is_client_error() && !status.is_server_error() {
        return response;
    }
    let (request, response) = response.into_parts();
    let problem: Option<&Problem> = response.error().and_then(Error::as_error);
    let problem_was_ours = problem.is_some();
    let told = match problem {
        Some(problem) => problem.to_response(Some(id)),
        None if is_problem(response.headers()) => return ServiceResponse::new(request, response),
        None => Problem::of_status(status).to_response(Some(id)),
    };
    // The error stays with the response, for the line in the log.
    let (told, body) = told.into_parts();
    let response = response.set_body(body);
    let mut response = response;
    if problem_was_ours {
        // What others added besides stays.
        for name in told.headers().keys() {
            response.headers_mut().remove(name);
        }
        for (name, value) in told.headers() {
            response.headers_mut().append(name.clone(), value.clone());
        }
    } else {
        *response.headers_mut() = told.headers().clone();
    }
    ServiceResponse::new(request, response)
}

fn is_problem(headers: &HeaderMap) -> bool {
    headers
        .get(CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes() == PROBLEM_JSON.as_bytes())
}

pub(crate) fn add_headers(headers: &mut HeaderMap, id: Uuid) {
    if let Ok(value) = HeaderValue::try_from(id.to_string()) {
        headers.insert(X_REQUEST_ID, value);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let mut default = |name: HeaderName, value: &'static str| {
        if !headers.contains_key(&name) {
            headers.insert(name, HeaderValue::from_static(value));
        }
    };
    default(CACHE_CONTROL, "no-store");
    default(
        CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    );
}

/// What the sender, or a proxy, calls the request. It goes into the log, never
/// into our answers: it is the sender's text.
fn client_request_id(headers: &HeaderMap) -> Option<&str> {
    let is_sane = |text: &&str| {
        (1..=100).contains(&text.len())
            && text
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte))
    };
    let text = headers.get(&X_REQUEST_ID)?.to_str().ok()?;
    Some(text).filter(is_sane)
}

/// One request's line in the log. Neither query nor headers are in it: they
/// may hold secrets.
struct Line<'a> {
    method: &'a str,
    route: &'a str,
    status: u16,
    started: Instant,
}

impl Line<'_> {
    fn log(&self, problem: Option<&Problem>) {
        let Self {
            method,
            route,
            status,
            started,
        } = *self;
        let duration_ms = started.elapsed().as_secs_f64() * 1_000.0;
        let code = problem.map(|problem| problem.code().slug());
        if let Some(cause) = problem.and_then(Problem::cause) {
            let cause = Chain(cause);
            if status >= 500 {
                tracing::error!(method, route, status, duration_ms, code, %cause, "{method} {route} failed");
            } else {
                tracing::info!(method, route, status, duration_ms, code, %cause, "{method} {route}");
            }
        } else if matches!(route, "/healthz" | "/readyz") && status < 500 {
            tracing::debug!(method, route, status, duration_ms, "{method} {route}");
        } else {
            tracing::info!(method, route, status, duration_ms, code, "{method} {route}");
        }
    }
}
