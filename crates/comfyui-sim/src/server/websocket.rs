//! `GET /ws`.

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;

use super::reply;
use super::request::{Parameters, upgrade};
use crate::events::Session;
use crate::gate::Scissors;
use crate::instance::Instance;

/// Larger messages from a client end the connection.
const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;

/// Upgrades the connection. A client without an id gets one of 32 hexadecimal digits.
pub(super) async fn open(
    instance: &Arc<Instance>,
    scissors: Scissors,
    parameters: &Parameters,
    request: Request,
) -> Response {
    let client_id = match parameters.get("clientId") {
        Some(client_id) if !client_id.is_empty() => client_id.to_owned(),
        _ => instance.mint_uuid().simple().to_string(),
    };
    match upgrade(request).await {
        Some(upgrade) => {
            let session = Session::register(Arc::clone(instance), client_id).await;
            upgrade
                .max_message_size(MAX_MESSAGE_BYTES)
                .on_upgrade(move |websocket| session.serve(websocket, scissors))
        }
        None => reply::text(
            StatusCode::BAD_REQUEST,
            "No WebSocket UPGRADE hdr: None\n Can \"Upgrade\" only to \"WebSocket\".".to_owned(),
        ),
    }
}
