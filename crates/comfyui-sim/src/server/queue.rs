//! Looking at the queue and changing it (`reference/comfyui/PROTOCOL.md` section 4).

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use super::{reply, request};
use crate::instance::Instance;
use crate::python;

/// `GET /prompt`.
pub(super) fn remaining(instance: &Instance) -> Response {
    reply::json(&json!({"exec_info": {"queue_remaining": instance.queue.remaining()}}))
}

/// `GET /queue`.
pub(super) fn show(instance: &Instance) -> Response {
    reply::json(&instance.queue.snapshot())
}

/// `POST /queue`: `{"clear": true}`, `{"delete": [ids]}`.
pub(super) async fn change(instance: &Instance, request: Request) -> Response {
    let command = match request::json_body(instance, request).await {
        Ok(command) => command,
        Err(refusal) => return refusal,
    };
    if command.get("clear").is_some_and(python::truth) {
        instance.queue.wipe();
        instance.publish_status();
    }
    if let Some(Value::Array(ids)) = command.get("delete") {
        for prompt_id in ids.iter().filter_map(Value::as_str) {
            if instance.queue.delete(prompt_id) {
                instance.publish_status();
            }
        }
    }
    reply::empty(StatusCode::OK)
}

/// `POST /interrupt`: with a `prompt_id` only if that one runs, without one whatever runs.
pub(super) async fn interrupt(instance: &Instance, request: Request) -> Response {
    let body = match request::body(instance, request).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let command: Value = serde_json::from_slice(&body).unwrap_or_default();
    match command
        .get("prompt_id")
        .filter(|prompt_id| python::truth(prompt_id))
    {
        Some(prompt_id) => instance.queue.interrupt(Some(&python::text(prompt_id))),
        None => instance.queue.interrupt(None),
    }
    reply::empty(StatusCode::OK)
}

/// `POST /free`: `{"unload_models": true, "free_memory": true}`. Only the second one drops results and loaded LoRAs.
pub(super) async fn free(instance: &Instance, request: Request) -> Response {
    match request::json_body(instance, request).await {
        Ok(command) => {
            if command.get("free_memory").is_some_and(python::truth) {
                instance.request_free();
            }
            reply::empty(StatusCode::OK)
        }
        Err(refusal) => refusal,
    }
}
