//! `POST /prompt` (`reference/comfyui/PROTOCOL.md` section 3).

use std::sync::Arc;

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{reply, request};
use crate::gate::Scissors;
use crate::instance::{Instance, now_ms};
use crate::json::Keys;
use crate::python;
use crate::queue::QueueItem;
use crate::validation::{Verdict, validate};

/// What must not be stored: the client's keys for paid services.
const SECRETS: [&str; 2] = ["auth_token_comfy_org", "api_key_comfy_org"];

/// The order of the node ids, which the parsed body does not keep.
#[derive(Deserialize)]
struct NodeOrder {
    prompt: Keys,
}

/// Validates and queues a prompt. With the right fault the answer is lost afterwards.
pub(super) async fn submit(instance: &Instance, scissors: &Scissors, request: Request) -> Response {
    let usage_source = request
        .headers()
        .get("comfy-usage-source")
        .and_then(|source| source.to_str().ok().map(str::to_owned));
    let body = match request::body(instance, request).await {
        Ok(body) => body,
        Err(refusal) => return refusal,
    };
    let response = process(instance, &body, usage_source).unwrap_or_else(reply::crash);
    if instance.faults.take_lost_answer() {
        scissors.cut();
        // The connection is gone; there is nobody left to answer.
        std::future::pending::<()>().await;
    }
    response
}

/// The answer; `None` where the real server fails.
fn process(instance: &Instance, body: &[u8], usage_source: Option<String>) -> Option<Response> {
    let mut fields = match serde_json::from_slice(body).ok()? {
        Value::Object(fields) => fields,
        // Looking for keys in a list or a text finds none.
        Value::Array(_) | Value::String(_) => Map::new(),
        Value::Null | Value::Bool(_) | Value::Number(_) => return None,
    };
    let number = priority(instance, &fields)?;
    let Some(prompt) = fields.remove("prompt") else {
        let message = "No prompt provided";
        return Some(refuse(
            &json!({"type": "no_prompt", "message": message, "details": message, "extra_info": {}}),
            &json!({}),
        ));
    };
    let prompt_id = match prompt_id(instance, fields.get("prompt_id")) {
        Ok(prompt_id) => prompt_id,
        Err(error) => return Some(refuse(&error, &json!({}))),
    };
    let order = serde_json::from_slice::<NodeOrder>(body)
        .map(|order| order.prompt.0)
        .unwrap_or_default();
    let targets: Option<Vec<String>> = fields
        .get("partial_execution_targets")
        .and_then(Value::as_array)
        .map(|targets| targets.iter().map(python::text).collect());
    let verdict = validate(instance, prompt, order, targets.as_deref());
    let extra_data = extra_data(instance, &mut fields, usage_source)?;
    match verdict {
        Verdict::Crash => None,
        Verdict::Refused { error, node_errors } => Some(refuse(&error, &node_errors)),
        Verdict::Accepted {
            prompt,
            outputs,
            node_errors,
        } => {
            instance.tally.submitted(&prompt_id);
            let answer =
                json!({"prompt_id": prompt_id, "number": number, "node_errors": node_errors});
            let item = QueueItem {
                number,
                prompt_id,
                prompt: Arc::new(prompt),
                extra_data: Arc::new(extra_data),
                outputs,
            };
            instance.enqueue(item).ok()?;
            Some(reply::json(&answer))
        }
    }
}

fn refuse(error: &Value, node_errors: &Value) -> Response {
    reply::json_with(
        StatusCode::BAD_REQUEST,
        &json!({"error": error, "node_errors": node_errors}),
    )
}

/// The client's number as a float, or the next one of the counter, negative for the front of the queue.
fn priority(instance: &Instance, fields: &Map<String, Value>) -> Option<Value> {
    match fields.get("number") {
        Some(Value::String(text)) => text
            .trim()
            .parse::<f64>()
            .ok()
            .filter(|number| number.is_finite())
            .map(Value::from),
        Some(Value::Bool(flag)) => Some(json!(f64::from(u8::from(*flag)))),
        Some(number) => number.as_f64().map(Value::from),
        None => {
            let number = instance.next_number();
            let front = fields.get("front").is_some_and(python::truth);
            Some(json!(if front { -number } else { number }))
        }
    }
}

/// The client's id, a new one if it has none, or an error object.
fn prompt_id(instance: &Instance, given: Option<&Value>) -> Result<String, Value> {
    if !instance.options.version.is_current() {
        return Ok(given.map_or_else(|| instance.mint_uuid().to_string(), python::text));
    }
    match given {
        None | Some(Value::Null) => Ok(instance.mint_uuid().to_string()),
        Some(Value::String(text)) if is_canonical_uuid(text) => Ok(text.clone()),
        Some(_) => Err(json!({
            "type": "invalid_prompt_id",
            "message": "prompt_id must be a valid UUID",
            "details": "prompt_id must be a UUID string in canonical lowercase hyphenated form; \
                        omit it to let the server generate one",
            "extra_info": {},
        })),
    }
}

pub(super) fn is_canonical_uuid(text: &str) -> bool {
    uuid::Uuid::parse_str(text).is_ok_and(|uuid| uuid.to_string() == text)
}

/// What is stored besides the prompt; `None` if the client sent something that is no object.
fn extra_data(
    instance: &Instance,
    fields: &mut Map<String, Value>,
    usage_source: Option<String>,
) -> Option<Map<String, Value>> {
    let mut extra_data = match fields.remove("extra_data") {
        None => Map::new(),
        Some(Value::Object(members)) => members,
        Some(_) => return None,
    };
    if let Some(client_id) = fields.remove("client_id") {
        extra_data.insert("client_id".to_owned(), client_id);
    }
    for secret in SECRETS {
        extra_data.remove(secret);
    }
    if instance.options.version.is_current() {
        if let Some(source) = usage_source {
            extra_data.insert("comfy_usage_source".to_owned(), json!(source));
        }
        extra_data.insert("create_time".to_owned(), json!(now_ms()));
    }
    Some(extra_data)
}
