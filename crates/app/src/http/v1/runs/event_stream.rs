//! A run's events as server-sent events (WHATWG HTML, section 9.2).

use std::convert::Infallible;
use std::fmt::Write as _;
use std::ops::Range;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use actix_web::web::Bytes;
use atelier_application::runs::{RunEvents, final_status};
use atelier_domain::ports::{PreviewFormat, PreviewImage, PreviewStream};
use atelier_domain::run::{RunEvent, RunStatus};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::{Stream, StreamExt as _};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use uuid::Uuid;

use crate::http::time::Timestamp;

/// What a browser waits before it connects again.
const OPENING: &str = "retry: 2000\n\n";

/// The same when the server stops, in milliseconds: all its streams end at
/// once, and are not to come back at once.
const RETRY_AFTER_STOP_MS: Range<u128> = 250..1_750;

/// How long nothing is said at most: proxies drop streams that are idle for a
/// minute.
const SILENCE: Duration = Duration::from_secs(15);
const HEARTBEAT: &str = ": still here\n\n";

/// How long a stream lasts: as long as an access token does. Whoever follows
/// on shows a new one.
const LIFETIME: Duration = Duration::from_hours(1);

/// About how many bytes are made before the client has taken some.
const ENOUGH: usize = 8 * 1024;

/// The body of an answer: made piece by piece, as the client takes it.
pub(super) struct EventStream {
    stage: Stage,
    events: RunEvents,
    previews: Option<PreviewStream>,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    /// What decides when to come back after the server stopped.
    chance: Uuid,
    silence: Pin<Box<Sleep>>,
    until: Instant,
}

enum Stage {
    /// Nothing was sent.
    Opening,
    /// Events are sent.
    Going {
        /// The status in which the last of them ended the run.
        ended: Option<RunStatus>,
    },
    /// Everything was sent.
    Closed,
}

impl EventStream {
    pub(super) fn new(
        events: RunEvents,
        previews: Option<PreviewStream>,
        stopping: &CancellationToken,
        chance: Uuid,
    ) -> Self {
        Self {
            stage: Stage::Opening,
            events,
            previews,
            stopping: Box::pin(stopping.clone().cancelled_owned()),
            chance,
            silence: Box::pin(sleep(SILENCE)),
            until: Instant::now() + LIFETIME,
        }
    }

    /// What is to be sent now; an empty text for the end.
    fn poll_text(&mut self, context: &mut Context<'_>) -> Poll<String> {
        let mut ended = match self.stage {
            Stage::Opening => {
                self.stage = Stage::Going { ended: None };
                return Poll::Ready(OPENING.to_owned());
            }
            Stage::Closed => return Poll::Ready(String::new()),
            Stage::Going { ended } => ended,
        };
        if self.stopping.as_mut().poll(context).is_ready() {
            self.stage = Stage::Closed;
            return Poll::Ready(farewell(self.chance));
        }
        if Instant::now() >= self.until {
            return Poll::Ready(String::new());
        }
        let mut text = String::new();
        while text.len() < ENOUGH {
            match self.events.poll_next_unpin(context) {
                Poll::Ready(Some(event)) => {
                    ended = final_status(&event);
                    write_event(&mut text, &event);
                    self.stage = Stage::Going { ended };
                }
                Poll::Ready(None) => {
                    self.stage = Stage::Closed;
                    write_end(&mut text, ended);
                    return Poll::Ready(text);
                }
                Poll::Pending => break,
            }
        }
        if !text.is_empty() {
            return Poll::Ready(text);
        }
        if let Some(image) = self.poll_preview(context) {
            return Poll::Ready(preview_text(&image));
        }
        if self.silence.as_mut().poll(context).is_ready() {
            return Poll::Ready(HEARTBEAT.to_owned());
        }
        Poll::Pending
    }

    fn poll_preview(&mut self, context: &mut Context<'_>) -> Option<PreviewImage> {
        match self.previews.as_mut()?.poll_next_unpin(context) {
            Poll::Ready(Some(image)) => Some(image),
            Poll::Ready(None) => {
                self.previews = None;
                None
            }
            Poll::Pending => None,
        }
    }
}

impl Stream for EventStream {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        this.poll_text(context).map(|text| {
            if text.is_empty() {
                this.stage = Stage::Closed;
                return None;
            }
            this.silence.as_mut().reset(Instant::now() + SILENCE);
            Some(Ok(Bytes::from(text)))
        })
    }
}

/// An event's data, and when it happened.
#[derive(Serialize)]
struct EventData<'a> {
    #[serde(flatten)]
    data: &'a Value,
    created_at: Timestamp,
}

fn write_event(text: &mut String, event: &RunEvent) {
    let data = EventData {
        data: &event.data,
        created_at: Timestamp(event.created_at),
    };
    // JSON on one line: it writes line breaks as escapes.
    let data = serde_json::to_string(&data).unwrap_or_else(|_not_an_object| "{}".to_owned());
    let kind = event.kind.as_str();
    // Writing to a string cannot fail.
    let _infallible = write!(
        text,
        "id: {}\nevent: {kind}\ndata: {data}\n\n",
        event.sequence
    );
}

/// Says that the run is over. It has no id: whoever connects again does so
/// after the last event, and is told that there is nothing more.
fn write_end(text: &mut String, ended: Option<RunStatus>) {
    if let Some(status) = ended {
        let status = status.as_str();
        // Writing to a string cannot fail.
        let _infallible = write!(text, "event: end\ndata: {{\"status\":\"{status}\"}}\n\n");
    }
}

/// Sends the client elsewhere, or here again, a little later.
fn farewell(chance: Uuid) -> String {
    let Range { start, end } = RETRY_AFTER_STOP_MS;
    let pause_ms = start + chance.as_u128() % (end - start);
    format!(": the server stops\nretry: {pause_ms}\n\n")
}

fn preview_text(image: &PreviewImage) -> String {
    let content_type = match image.content_type {
        PreviewFormat::Jpeg => "image/jpeg",
        PreviewFormat::Png => "image/png",
    };
    let mut text = String::with_capacity(image.bytes.len() / 3 * 4 + 128);
    // Writing to a string cannot fail.
    let _infallible = write!(
        text,
        "event: preview\ndata: {{\"content_type\":\"{content_type}\",\"image\":\""
    );
    STANDARD.encode_string(&image.bytes, &mut text);
    text.push_str("\"}\n\n");
    text
}
