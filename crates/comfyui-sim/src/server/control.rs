//! The routes that steer the simulator itself; the real server has none of them.

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::json;

use super::{App, reply, request};

/// Answers anything below `/sim/`.
///
/// * `GET /sim/faults`: what goes wrong;
/// * `POST /sim/faults`: replaces that by the body, `{}` turns everything off;
/// * `GET /sim/executions`: `{prompt_id: {submissions, executions}}` since the start of the simulator;
/// * `POST /sim/restart`: answers, then restarts.
pub(super) async fn answer(app: &App, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/sim/faults") => reply::json(&app.instance.faults.current()),
        (&Method::POST, "/sim/faults") => set_faults(app, request).await,
        (&Method::GET, "/sim/executions") => reply::json(&app.instance.tally.all()),
        (&Method::POST, "/sim/restart") => {
            app.restarter.restart_soon();
            reply::json(&json!({"restarting": true}))
        }
        _ => reply::no_route(),
    }
}

async fn set_faults(app: &App, request: Request) -> Response {
    let body = match request::body(&app.instance, request).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    match serde_json::from_slice(&body) {
        Ok(faults) => {
            app.instance.faults.set(faults);
            reply::json(&app.instance.faults.current())
        }
        Err(error) => {
            let complaint = format!("these faults cannot be read: {error}");
            reply::json_with(StatusCode::BAD_REQUEST, &json!({"error": complaint}))
        }
    }
}
