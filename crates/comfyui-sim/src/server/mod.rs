//! The HTTP routes. Each exists with and without the prefix `/api`, except the jobs, which only exist with it
//! (`reference/comfyui/PROTOCOL.md` section 1).

mod control;
mod front;
mod history;
mod info;
mod jobs;
mod prompt;
mod queue;
mod reply;
mod request;
mod routes;
mod upload;
mod view;
mod websocket;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;

use crate::gate::Scissors;
use crate::instance::Instance;
use crate::picture::digest;
use crate::simulator::Restarter;

/// What every request handler can use.
#[derive(Clone, Debug)]
pub(crate) struct App {
    pub(crate) instance: Arc<Instance>,
    pub(crate) restarter: Restarter,
}

/// The routes of one instance.
pub(crate) fn router(app: App) -> Router {
    Router::new().fallback(answer).with_state(app)
}

/// Answers any request, with the faults that concern all of them.
async fn answer(
    State(app): State<App>,
    ConnectInfo(scissors): ConnectInfo<Scissors>,
    request: Request,
) -> Response {
    if app.instance.options.control && request.uri().path().starts_with("/sim/") {
        return control::answer(&app, request).await;
    }
    let faults = app.instance.faults.current();
    if faults.delay_answers_ms > 0 {
        tokio::time::sleep(Duration::from_millis(faults.delay_answers_ms)).await;
    }
    if let Some(refusal) = front::refuse(&app.instance, &faults, &request) {
        return refusal;
    }
    if faults.fail_percent > 0
        && fails(
            faults.fail_seed,
            app.instance.next_request(),
            faults.fail_percent,
        )
    {
        return reply::crash();
    }
    if let Some(refusal) = front::refuse_foreign_origin(&app.instance, &request) {
        return refusal;
    }
    routes::answer(app, scissors, request).await
}

/// Whether the request with this number is one of the failing ones.
fn fails(seed: u64, request: u64, percent: u8) -> bool {
    let [first, second, ..] = digest([
        b"fail".as_slice(),
        &seed.to_le_bytes(),
        &request.to_le_bytes(),
    ]);
    u16::from_le_bytes([first, second]) % 100 < u16::from(percent)
}
