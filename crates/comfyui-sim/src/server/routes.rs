//! From path and method to handler.

use axum::extract::Request;
use axum::http::{Method, StatusCode};
use axum::response::Response;

use super::request::{Parameters, decode};
use super::{App, history, info, jobs, prompt, queue, reply, upload, view, websocket};
use crate::gate::Scissors;

/// Answers a request that nothing has refused.
pub(super) async fn answer(app: App, scissors: Scissors, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    if method == Method::OPTIONS {
        return reply::empty(StatusCode::OK);
    }
    let prefixed = path.strip_prefix("/api/");
    if let Some(below) = prefixed
        && (below == "jobs" || below.starts_with("jobs/"))
        && app.instance.options.version.is_current()
    {
        return jobs::answer(&app.instance, below, request).await;
    }
    let segments: Vec<String> = prefixed
        .or_else(|| path.strip_prefix('/'))
        .unwrap_or_default()
        .split('/')
        .map(decode)
        .collect();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    if method == Method::GET || method == Method::HEAD {
        get(&app, scissors, &segments, request).await
    } else if method == Method::POST {
        post(&app, &scissors, &segments, request).await
    } else {
        wrong_method(&segments)
    }
}

async fn get(app: &App, scissors: Scissors, segments: &[&str], request: Request) -> Response {
    let instance = &app.instance;
    let parameters = Parameters::of(request.uri());
    match segments {
        ["prompt"] => queue::remaining(instance),
        ["queue"] => queue::show(instance),
        ["history"] => history::list(instance, &parameters),
        ["history", prompt_id] => history::show(instance, prompt_id),
        ["ws"] => websocket::open(instance, scissors, &parameters, request).await,
        ["view"] => view::show(instance, &parameters, request.headers()),
        ["view_metadata", folder] => view::metadata(instance, folder, &parameters),
        ["system_stats"] => info::system_stats(instance),
        ["features"] => reply::json(&instance.features()),
        ["object_info"] => info::all_classes(instance),
        ["object_info", class_type] => info::one_class(instance, class_type),
        ["models"] => reply::json(&instance.models.folders()),
        ["models", folder] => info::models(instance, folder),
        ["experiment", "models", folder] => info::models_with_details(instance, folder),
        ["embeddings"] => info::embeddings(instance),
        ["users"] => info::users(),
        ["settings"] => reply::json(&serde_json::json!({})),
        _ => reply::no_route(),
    }
}

async fn post(app: &App, scissors: &Scissors, segments: &[&str], request: Request) -> Response {
    let instance = &app.instance;
    match segments {
        ["prompt"] => prompt::submit(instance, scissors, request).await,
        ["queue"] => queue::change(instance, request).await,
        ["interrupt"] => queue::interrupt(instance, request).await,
        ["free"] => queue::free(instance, request).await,
        ["history"] => history::change(instance, request).await,
        ["upload", "image"] => upload::image(instance, request).await,
        _ => wrong_method(segments),
    }
}

/// Every path is a possible file of the web interface, so that a wrong method is 405 even where there is nothing.
fn wrong_method(segments: &[&str]) -> Response {
    reply::wrong_method(match segments {
        ["prompt" | "queue" | "history" | "interrupt" | "free"] | ["upload", "image"] => {
            "GET,HEAD,POST"
        }
        _ => "GET,HEAD",
    })
}
