//! `GET /runs/{id}/events`

use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName};
use actix_web::{HttpRequest, HttpResponse, web};
use atelier_application::runs::Following;
use atelier_domain::validation::Violation;
use futures_util::StreamExt as _;
use utoipa::ToSchema;

use super::event_stream::EventStream;
use crate::http::api::Api;
use crate::http::auth::ReadsRuns;
use crate::http::openapi::values::RunEventWord;
use crate::http::path::PathSegments;
use crate::http::problem::{Problem, ProblemCode};
use crate::http::query::{Query, digits};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// Keeps nginx and its kind from collecting a stream before they pass it on.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// One event of a stream.
#[derive(ToSchema)]
#[schema(as = RunEvent)]
#[expect(dead_code, reason = "describes what `EventStream` writes")]
pub(crate) struct EventBody {
    /// What sort of thing happened.
    #[schema(value_type = RunEventWord)]
    event: Option<String>,
    /// Its place in the run's history; not there for `end` and `preview`.
    #[schema(pattern = "^[0-9]+$")]
    id: Option<String>,
    /// What a browser waits before it connects again, in milliseconds; at the
    /// beginning alone.
    retry: Option<u32>,
    /// A JSON object.
    #[schema(content_media_type = "application/json")]
    data: String,
}

/// Follows a run of one's own: what happened to it, then what happens, until
/// it is over.
///
/// Server-sent events. Each has the sequence of what happened as its `id`, as
/// its `event` one of `status` (`status`, `attempt`), `phase` (`phase`),
/// `progress` (the members of the run's `progress`), `output` (`index`,
/// `filename`) and `error` (the members of the run's `error`), and as its
/// `data` one JSON object with these members and `created_at`. After the last
/// comes `end` (`status`), without an id, and the stream closes. A comment
/// comes where nothing else does for 15 seconds.
///
/// A stream lasts an hour at the most, and ends when the server stops, which
/// says in `retry` when to connect again. Whoever connects again with the
/// header `Last-Event-ID` goes on behind that event; who has seen the last one
/// gets 204.
#[utoipa::path(get, path = "/api/v1/comfyui/runs/{id}/events", operation_id = "followRun", tag = "runs",
    params(
        ("id" = Uuid, Path, description = "The run's id."),
        ("Last-Event-ID" = Option<String>, Header, description = "The `id` of the last event that one has; from the beginning without it, or with an empty one.", pattern = "^[0-9]{0,18}$"),
        ("last_event_id" = Option<i64>, Query, description = "The same, for clients that cannot send headers; the header counts where both are there.", minimum = 0, maximum = 9_223_372_036_854_775_807_i64),
        ("previews" = Option<u8>, Query, description = "1: also sends `preview` events (`content_type`, `image` in base64), the latest picture of what is being made. They have no id and do not come again.", minimum = 0, maximum = 1)),
    responses(
        (status = 200, description = "The events, one after another; the schema is of one.", body = EventBody, content_type = "text/event-stream"),
        (status = 204, description = "The run is over, and there is nothing behind the event that one has.")))]
pub(crate) async fn handler(
    api: web::Data<Api>,
    ReadsRuns(actor): ReadsRuns,
    path: PathSegments,
    mut query: Query,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id = path.id()?;
    let known = last_event_id(&request, &mut query)?;
    let previews = query.value("previews", "0 or 1", |text| match text {
        "0" => Some(false),
        "1" => Some(true),
        _ => None,
    });
    query.finish()?;
    let events = match api.follow_run().execute(&actor, id, known).await? {
        Following::Absent => return Err(Problem::run_not_found()),
        Following::Over => return Ok(HttpResponse::NoContent().finish()),
        Following::Events(events) => events,
    };
    let previews = (previews == Some(true)).then(|| api.ports().previews.watch(id));
    let open = api.observation().metrics.open_stream();
    // It is open until actix drops the body.
    let counted = move |_piece: &_| _ = &open;
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-cache"))
        .insert_header((X_ACCEL_BUFFERING, "no"))
        .streaming(
            EventStream::new(events, previews, api.stopping(), api.ports().ids.new_id())
                .inspect(counted),
        ))
}

/// The sequence of the last event that the client has; 0 for none.
///
/// A browser that connects again sends the header to the address that it had:
/// so the header counts, where both are there.
fn last_event_id(request: &HttpRequest, query: &mut Query) -> Result<i64, Problem> {
    let read = |text: &str, name| digits(text).ok_or_else(|| no_event_id(name));
    let in_query = query
        .text("last_event_id", 32)
        .map(|text| read(&text, "?last_event_id"))
        .transpose()?;
    let in_header = match request.headers().get(LAST_EVENT_ID) {
        Some(value) => Some(
            value
                .to_str()
                .map_err(|_not_ascii| no_event_id("Last-Event-ID"))?,
        ),
        None => None,
    };
    match in_header.filter(|text| !text.is_empty()) {
        Some(text) => read(text, "Last-Event-ID"),
        None => Ok(in_query.unwrap_or_default()),
    }
}

fn no_event_id(name: &'static str) -> Problem {
    let detail = "must be the `id` of an event, a number from 0";
    Problem::new(ProblemCode::BadRequest, format!("{name} {detail}."))
        .with_errors(vec![Violation::new(name, detail)])
}
