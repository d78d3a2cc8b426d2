//! `/history` (`reference/comfyui/PROTOCOL.md` section 5).

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::Value;

use super::request::Parameters;
use super::{reply, request};
use crate::instance::Instance;
use crate::json::Ordered;
use crate::python;

/// `GET /history`: the oldest first; `max_items` alone means the last ones, with `offset` from there on.
pub(super) fn list(instance: &Instance, parameters: &Parameters) -> Response {
    let number = |name: &str| {
        parameters
            .get(name)
            .map(|text| text.trim().parse::<i64>())
            .transpose()
    };
    let (Ok(max_items), Ok(offset)) = (number("max_items"), number("offset")) else {
        return reply::crash();
    };
    let entries = instance.queue.history(|history| history.all());
    let length = i64::try_from(entries.len()).unwrap_or(i64::MAX);
    let start = match (offset, max_items) {
        (Some(offset), _) if offset >= 0 => offset,
        (_, Some(max_items)) => length.saturating_sub(max_items),
        _ => 0,
    };
    let start = usize::try_from(start.max(0)).unwrap_or(usize::MAX);
    // At least one entry is taken before the limit is looked at.
    let limit = max_items.map_or(usize::MAX, |max_items| {
        usize::try_from(max_items.max(1)).unwrap_or(usize::MAX)
    });
    let chosen = entries.into_iter().skip(start).take(limit);
    reply::json(&Ordered(
        chosen
            .map(|(prompt_id, entry)| (prompt_id, entry.as_ref().clone()))
            .collect(),
    ))
}

/// `GET /history/{id}`: `{}` for everything that is not finished.
pub(super) fn show(instance: &Instance, prompt_id: &str) -> Response {
    let entry = instance.queue.history(|history| history.get(prompt_id));
    let entries = entry
        .map(|entry| (prompt_id.to_owned(), entry.as_ref().clone()))
        .into_iter();
    reply::json(&Ordered(entries.collect()))
}

/// `POST /history`: `{"clear": true}`, `{"delete": [ids]}`.
pub(super) async fn change(instance: &Instance, request: Request) -> Response {
    let command = match request::json_body(instance, request).await {
        Ok(command) => command,
        Err(refusal) => return refusal,
    };
    instance.queue.history(|history| {
        if command.get("clear").is_some_and(python::truth) {
            history.clear();
        }
        if let Some(Value::Array(ids)) = command.get("delete") {
            ids.iter()
                .filter_map(Value::as_str)
                .for_each(|prompt_id| history.delete(prompt_id));
        }
    });
    reply::empty(StatusCode::OK)
}
