//! The listener: as actix's own, except that whoever asks before sending
//! (`Expect: 100-continue`) is not told to go on with a body that nothing here
//! takes, and that it does not end by itself.

use std::future::ready;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::time::Duration;

use actix_http::{ConnectionType, HttpService, Protocol, Request};
use actix_server::Server;
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::body::BoxBody;
use actix_web::dev::{AppConfig, Response, ServiceResponse};
use actix_web::rt::net::TcpStream;
use actix_web::web;
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::connection::Connection;
use super::json::content_length;
use super::problem::Problem;
use super::{app, request_id};

/// How long a client may take to send the head of a request.
const HEAD_WAIT: Duration = Duration::from_secs(10);
/// How long an idle connection is kept.
const KEEP_ALIVE: Duration = Duration::from_secs(75);
/// How long a connection may take to close.
const DISCONNECT_WAIT: Duration = Duration::from_secs(1);
/// How long a stop waits for requests: whoever stops it decides that.
const NEVER: Duration = Duration::from_hours(24);

/// Serves `api` on `listener` until the server is stopped; `threads` of them
/// answer, or one a processor.
///
/// Once the api stops, each answer is the last of its connection. Connections
/// that are idle are closed when `no_more` is cancelled.
///
/// # Errors
/// What the system says to the listener.
pub(super) fn serve(
    api: web::Data<Api>,
    listener: TcpListener,
    threads: Option<NonZeroUsize>,
    no_more: CancellationToken,
) -> io::Result<Server> {
    let address = listener.local_addr()?;
    let mut builder = Server::build()
        .disable_signals()
        .shutdown_timeout(NEVER.as_secs());
    if let Some(threads) = threads {
        builder = builder.workers(threads.get());
    }
    let builder = builder.listen("http", listener, move || {
        let no_more = no_more.clone();
        let (asked, told) = (web::Data::clone(&api), web::Data::clone(&api));
        let app = app(web::Data::clone(&api))
            .into_factory()
            .map(move |response| say_goodbye(&told, response))
            .map_err(|error: actix_web::Error| error.error_response());
        let http = HttpService::build()
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(HEAD_WAIT)
            .client_disconnect_timeout(DISCONNECT_WAIT)
            .local_addr(address)
            .expect(move |request| ready(go_on(&asked, request)))
            .finish(map_config(app, |()| AppConfig::default()));
        fn_service(move |io: TcpStream| ready(Ok(accepted(io, no_more.clone())))).and_then(http)
    })?;
    Ok(builder.run())
}

/// What HTTP/1.1 is spoken on, and with whom.
fn accepted(
    io: TcpStream,
    no_more: CancellationToken,
) -> (Connection, Protocol, Option<SocketAddr>) {
    let peer = io.peer_addr().ok();
    (Connection::new(io, no_more), Protocol::Http1, peer)
}

/// The client's next request is to go over another connection, which leads
/// elsewhere.
fn say_goodbye(api: &Api, mut response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    if api.stopping().is_cancelled() {
        let head = response.response_mut().head_mut();
        head.set_connection_type(ConnectionType::Close);
    }
    response
}

/// Whether a client that asks may send its body.
fn go_on(api: &Api, request: Request) -> Result<Request, Response<BoxBody>> {
    let most = api.limits().largest_body();
    if content_length(&request.head().headers).is_none_or(|length| length <= most) {
        return Ok(request);
    }
    let id = api.ports().ids.new_id();
    let refused = Problem::too_large("A LoRA file", api.limits().lora_bytes);
    let mut response = refused.to_response(Some(id));
    request_id::add_headers(response.headers_mut(), id);
    // Whoever sends the body all the same is not read.
    response
        .head_mut()
        .set_connection_type(ConnectionType::Close);
    tracing::info!(request_id = %id, status = 413, "a body was refused before it was sent");
    Err(response.into())
}
