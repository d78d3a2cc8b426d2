//! From the executor to the open sockets (`reference/comfyui/PROTOCOL.md` section 6).

mod publisher;
mod session;
mod sockets;

pub(crate) use publisher::{Audience, Publisher};
pub(crate) use session::Session;
pub(crate) use sockets::Sockets;

use axum::extract::ws::Message;
use serde_json::{Value, json};

/// A text frame `{"type", "data"}`.
pub(crate) fn text_frame(kind: &str, data: &Value) -> Message {
    Message::text(json!({"type": kind, "data": data}).to_string())
}
