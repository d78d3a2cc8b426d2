//! What a worker without the API tells: that it lives, whether it can do its work, what it measures.

use std::io;
use std::net::TcpListener;

use actix_web::dev::Server;
use actix_web::{App, HttpRequest, HttpResponse, HttpServer, web};
use tokio_util::sync::CancellationToken;

use super::health::{self, Readiness};
use super::metrics::Observation;
use super::problem::Problem;
use super::{at, nothing_here, read_only};

/// How long answers may take to go out once the worker stops, in seconds.
const DRAIN_SECONDS: u64 = 1;

/// Where a worker answers who asks about it.
pub(crate) struct WorkerDesk {
    pub(crate) readiness: Readiness,
    pub(crate) observation: Observation,
}

/// Serves `/healthz`, `/readyz` and `/metrics` on `listener`, on one thread, until `closing` is
/// cancelled.
///
/// # Errors
/// What the system says to the listener.
pub(crate) fn serve_worker(
    desk: WorkerDesk,
    listener: TcpListener,
    closing: CancellationToken,
) -> io::Result<Server> {
    let desk = web::Data::new(desk);
    let server = HttpServer::new(move || {
        App::new()
            .app_data(web::Data::clone(&desk))
            .service(read_only("/healthz", health::healthz))
            .service(
                at("/readyz", "GET, HEAD")
                    .route(web::get().to(readyz))
                    .route(web::head().to(readyz)),
            )
            .service(
                at("/metrics", "GET, HEAD")
                    .route(web::get().to(metrics))
                    .route(web::head().to(metrics)),
            )
            .default_service(web::to(nothing_here))
    });
    let server = server
        .workers(1)
        .shutdown_timeout(DRAIN_SECONDS)
        .shutdown_signal(closing.cancelled_owned())
        .listen(listener)?;
    Ok(server.run())
}

async fn readyz(desk: web::Data<WorkerDesk>) -> Result<HttpResponse, Problem> {
    health::answer(&desk.readiness).await
}

async fn metrics(
    desk: web::Data<WorkerDesk>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    desk.observation.answer(request.headers()).await
}
