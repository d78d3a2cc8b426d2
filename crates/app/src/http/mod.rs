//! The HTTP edge: requests become commands, results become responses.
//!
//! One file an endpoint, below [`v1`]; what several of them need lies here.
//! A handler extracts, asks a use case or a port, and answers; errors become
//! RFC 9457 problems in [`problem`].
#![expect(
    clippy::future_not_send,
    reason = "actix runs a handler on one thread from its beginning to its end"
)]

mod api;
mod auth;
mod connection;
mod cross_origin;
mod docs;
mod download;
mod draining;
mod etag;
mod form;
pub mod health;
mod idempotency;
mod json;
mod lent_token;
mod listening;
mod metrics;
pub mod openapi;
mod page;
mod path;
pub mod problem;
mod query;
mod range;
mod rate_limit;
mod request_id;
mod seeing_off;
mod time;
mod tus;
mod v1;
mod worker;

use actix_web::body::BoxBody;
use actix_web::dev::{ServiceFactory, ServiceRequest, ServiceResponse};
use actix_web::middleware::{Condition, from_fn};
use actix_web::{App, Error, HttpResponse, Resource, web};

pub use api::{Api, Limits, Ports};
pub use draining::{Listener, Moments};
pub use metrics::Observation;
pub(crate) use worker::{WorkerDesk, serve_worker};

use problem::Problem;

/// Below this path is the API.
pub const PREFIX: &str = "/api/v1/comfyui";

/// Builds the application around `api`.
pub fn app(
    api: web::Data<Api>,
) -> App<
    impl ServiceFactory<
        ServiceRequest,
        Config = (),
        Response = ServiceResponse<BoxBody>,
        Error = Error,
        InitError = (),
    >,
> {
    let origins = api.cors_origins();
    let cross_origin = Condition::new(!origins.is_empty(), cross_origin::policy(origins));
    App::new()
        .app_data(api)
        .wrap(cross_origin)
        .wrap(from_fn(request_id::observe))
        .service(read_only("/healthz", health::healthz))
        .service(
            at("/readyz", "GET, HEAD")
                .route(web::get().to(health::readyz))
                .route(web::head().to(health::readyz)),
        )
        .service(
            at("/metrics", "GET, HEAD")
                .route(web::get().to(metrics::handler))
                .route(web::head().to(metrics::handler)),
        )
        .service(read_only("/openapi.json", docs::document))
        .service(read_only("/docs", docs::redirect))
        .service(
            at("/docs/{file:.*}", "GET, HEAD")
                .route(web::get().to(docs::pages))
                .route(web::head().to(docs::pages)),
        )
        .service(web::scope(PREFIX).configure(v1::routes))
        .default_service(web::to(nothing_here))
}

async fn nothing_here() -> Result<HttpResponse, Problem> {
    Err(Problem::nothing_here())
}

/// A path that answers 405 to every method but those that are routed;
/// `allowed` names them.
fn at(path: &str, allowed: &'static str) -> Resource {
    web::resource(path).default_service(web::to(move || async move {
        Err::<HttpResponse, _>(Problem::method_not_allowed(allowed))
    }))
}

/// A path that is only read, and asks for nothing.
fn read_only<F, Fut>(path: &str, handler: F) -> Resource
where
    F: Fn() -> Fut + Copy + 'static,
    Fut: Future<Output = HttpResponse> + 'static,
{
    at(path, "GET, HEAD")
        .route(web::get().to(handler))
        .route(web::head().to(handler))
}
