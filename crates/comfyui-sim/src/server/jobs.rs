//! `/api/jobs` of the current version (`reference/comfyui/PROTOCOL.md` section 4).

mod query;

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value, json};

use self::query::{Query, Status};
use super::prompt::is_canonical_uuid;
use super::reply;
use super::request::{Parameters, json_body};
use crate::history::{Ending, Entry};
use crate::instance::Instance;
use crate::queue::QueueItem;

/// Answers anything at `/api/jobs` and below; `path` is without the prefix `/api/`.
pub(super) async fn answer(instance: &Instance, path: &str, request: Request) -> Response {
    if instance.faults.current().jobs_api_fails {
        return reply::crash();
    }
    let get = [Method::GET, Method::HEAD].contains(request.method());
    let post = request.method() == Method::POST;
    let segments: Vec<&str> = path.split('/').collect();
    match segments.as_slice() {
        ["jobs"] if get => list(instance, &Parameters::of(request.uri())),
        ["jobs", "cancel"] if post => cancel_many(instance, request).await,
        ["jobs", prompt_id] if get => show(instance, prompt_id),
        ["jobs", prompt_id, "cancel"] if post => {
            reply::json(&json!({"cancelled": cancel(instance, prompt_id)}))
        }
        _ if get => reply::no_route(),
        _ => reply::wrong_method("GET,HEAD"),
    }
}

/// A prompt, wherever it is.
#[derive(Debug)]
struct Job {
    status: Status,
    item: QueueItem,
    entry: Option<std::sync::Arc<Entry>>,
}

impl Job {
    fn queued(status: Status, item: QueueItem) -> Self {
        Self {
            status,
            item,
            entry: None,
        }
    }

    fn finished(entry: std::sync::Arc<Entry>) -> Self {
        let status = match entry.ending {
            Ending::Success => Status::Completed,
            Ending::Error => Status::Failed,
            Ending::Interrupted => Status::Cancelled,
        };
        Self {
            status,
            item: entry.item.clone(),
            entry: Some(entry),
        }
    }

    fn time(&self, types: &[&str]) -> Option<&Value> {
        self.entry.as_ref()?.time_of(types)
    }

    fn start(&self) -> Option<&Value> {
        self.time(&["execution_start"])
    }

    fn end(&self) -> Option<&Value> {
        self.time(&[
            "execution_success",
            "execution_error",
            "execution_interrupted",
        ])
    }

    fn duration(&self) -> u64 {
        let number = |time: Option<&Value>| time.and_then(Value::as_u64).unwrap_or_default();
        number(self.end()).saturating_sub(number(self.start()))
    }

    fn create_time(&self) -> u64 {
        self.item
            .extra_data
            .get("create_time")
            .and_then(Value::as_u64)
            .unwrap_or_default()
    }

    /// `extra_data.extra_pnginfo.workflow.id`; an `extra_pnginfo` that is no object is what the real server fails over.
    fn workflow_id(&self) -> Result<Option<&str>, Unreadable> {
        match self.item.extra_data.get("extra_pnginfo") {
            None => Ok(None),
            Some(Value::Object(members)) => Ok(members
                .get("workflow")
                .and_then(|workflow| workflow.get("id"))
                .and_then(Value::as_str)),
            Some(_) => Err(Unreadable),
        }
    }

    fn summary(&self) -> Result<Map<String, Value>, Unreadable> {
        let outputs = self
            .entry
            .as_ref()
            .map(|entry| entry.outputs.as_slice())
            .unwrap_or_default();
        let files = files(outputs);
        let error = self
            .entry
            .iter()
            .flat_map(|entry| &entry.messages)
            .find(|(kind, _)| *kind == "execution_error");
        let members = [
            ("id", Some(json!(self.item.prompt_id))),
            ("status", Some(json!(self.status.name()))),
            ("priority", Some(self.item.number.clone())),
            (
                "create_time",
                self.item.extra_data.get("create_time").cloned(),
            ),
            ("execution_start_time", self.start().cloned()),
            ("execution_end_time", self.end().cloned()),
            ("execution_error", error.map(|(_, data)| data.clone())),
            ("outputs_count", Some(json!(files.len()))),
            ("previewable_outputs_count", Some(json!(files.len()))),
            ("preview_output", preview(&files, outputs)),
            ("workflow_id", self.workflow_id()?.map(Value::from)),
        ];
        Ok(members
            .into_iter()
            .filter_map(|(name, value)| Some((name.to_owned(), value?)))
            .collect())
    }
}

/// What makes the real server fail.
#[derive(Debug)]
struct Unreadable;

fn files(outputs: &[(String, Value)]) -> Vec<Value> {
    let mut files = Vec::new();
    for (node_id, output) in outputs {
        for (media_type, items) in output.as_object().into_iter().flatten() {
            for item in items.as_array().into_iter().flatten() {
                if let Some(members) = item
                    .as_object()
                    .filter(|members| members.contains_key("filename"))
                {
                    let mut members = members.clone();
                    members.insert("nodeId".to_owned(), json!(node_id));
                    members.insert("mediaType".to_owned(), json!(media_type));
                    files.push(Value::Object(members));
                }
            }
        }
    }
    files
}

/// The first lasting file, else the first file, else the first text.
fn preview(files: &[Value], outputs: &[(String, Value)]) -> Option<Value> {
    let lasting = files
        .iter()
        .find(|file| file.get("type").is_some_and(|kind| kind == "output"));
    let text = || {
        outputs.iter().find_map(|(node_id, output)| {
            let content = output.get("text")?.get(0)?;
            Some(json!({"content": content, "nodeId": node_id, "mediaType": "text"}))
        })
    };
    lasting.or_else(|| files.first()).cloned().or_else(text)
}

fn all(instance: &Instance) -> Vec<Job> {
    let everything = instance.queue.everything();
    let running = everything
        .running
        .into_iter()
        .map(|item| Job::queued(Status::InProgress, item));
    let pending = everything
        .pending
        .into_iter()
        .map(|item| Job::queued(Status::Pending, item));
    let finished = everything
        .finished
        .into_iter()
        .map(|(_, entry)| Job::finished(entry));
    running.chain(pending).chain(finished).collect()
}

fn list(instance: &Instance, parameters: &Parameters) -> Response {
    let query = match Query::read(parameters) {
        Ok(query) => query,
        Err(complaint) => {
            return reply::json_with(StatusCode::BAD_REQUEST, &json!({"error": complaint}));
        }
    };
    let mut chosen = Vec::new();
    for job in all(instance) {
        let Ok(workflow_id) = job.workflow_id() else {
            return reply::crash();
        };
        if query.wants(job.status, workflow_id) {
            chosen.push(job);
        }
    }
    chosen.sort_by_key(|job| {
        if query.by_duration {
            job.duration()
        } else {
            job.create_time()
        }
    });
    if query.descending {
        chosen.reverse();
    }
    let total = chosen.len();
    let page = chosen
        .iter()
        .skip(query.offset)
        .take(query.limit.unwrap_or(usize::MAX));
    let Ok(jobs) = page.map(Job::summary).collect::<Result<Vec<_>, _>>() else {
        return reply::crash();
    };
    let has_more = query.offset.saturating_add(jobs.len()) < total;
    let pagination =
        json!({"offset": query.offset, "limit": query.limit, "total": total, "has_more": has_more});
    reply::json(&json!({"jobs": jobs, "pagination": pagination}))
}

fn show(instance: &Instance, prompt_id: &str) -> Response {
    let Some(job) = all(instance)
        .into_iter()
        .find(|job| job.item.prompt_id == prompt_id)
    else {
        return reply::json_with(StatusCode::NOT_FOUND, &json!({"error": "Job not found"}));
    };
    let Ok(mut members) = job.summary() else {
        return reply::crash();
    };
    if let Some(entry) = &job.entry {
        members.insert(
            "outputs".to_owned(),
            entry.outputs.iter().cloned().collect::<Map<_, _>>().into(),
        );
        members.insert("execution_status".to_owned(), entry.status());
        let workflow =
            json!({"prompt": entry.item.prompt.nodes, "extra_data": *entry.item.extra_data});
        members.insert("workflow".to_owned(), workflow);
    }
    reply::json(&members)
}

fn cancel(instance: &Instance, prompt_id: &str) -> bool {
    let (cancelled, dequeued) = instance.queue.cancel(prompt_id);
    if dequeued {
        instance.publish_status();
    }
    cancelled
}

async fn cancel_many(instance: &Instance, request: Request) -> Response {
    let command = match json_body(instance, request).await {
        Ok(command) => command,
        Err(_no_json) => Value::Null,
    };
    let Some(Value::Array(ids)) = command.get("job_ids") else {
        return reply::json_with(
            StatusCode::BAD_REQUEST,
            &json!({"error": "job_ids must be a list"}),
        );
    };
    let (valid, invalid): (Vec<_>, Vec<_>) = ids
        .iter()
        .partition(|id| id.as_str().is_some_and(is_canonical_uuid));
    if !invalid.is_empty() {
        let error = json!({"error": "job_ids contains invalid id(s)", "invalid_ids": invalid});
        return reply::json_with(StatusCode::BAD_REQUEST, &error);
    }
    let mut cancelled = false;
    for prompt_id in valid.into_iter().filter_map(Value::as_str) {
        cancelled |= cancel(instance, prompt_id);
    }
    reply::json(&json!({"cancelled": cancelled}))
}
