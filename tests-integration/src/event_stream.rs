//! A run's events as a client gets them.

use std::time::Duration;

use atelier_testkit::PATIENCE;
use reqwest::{Method, Response};
use serde_json::Value;
use tokio::time::timeout;

use crate::client::Client;

/// What came in one block of a stream.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Its number, if it is stored.
    pub id: Option<u64>,
    /// What sort of event.
    pub kind: String,
    /// The particulars.
    pub data: Value,
}

/// A stream that is being read.
#[derive(Debug)]
pub struct Stream {
    response: Response,
    text: String,
    retry: Option<Duration>,
}

impl Stream {
    /// Follows a run after the event `known`.
    pub async fn open(client: &Client, run: &str, known: u64) -> Self {
        let stream = Self::reopen(client, run, known).await;
        stream.expect("there is something to come")
    }

    /// The same; `None` if the run is over and nothing came after that event.
    pub async fn reopen(client: &Client, run: &str, known: u64) -> Option<Self> {
        let response = request(client, run, known).await;
        if response.status() == 204 {
            return None;
        }
        Some(Self::reading(response))
    }

    /// Reads an answer.
    pub fn reading(response: Response) -> Self {
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self {
            response,
            text: String::new(),
            retry: None,
        }
    }

    /// How long to wait before connecting again, by what was told last.
    pub fn retry(&self) -> Option<Duration> {
        self.retry
    }

    /// The next event; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some(end) = self.text.find("\n\n") {
                let block: String = self.text.drain(..end + 2).collect();
                self.retry = retry_of(&block).or(self.retry);
                if let Some(event) = read(&block) {
                    return Some(event);
                }
            }
            let chunk = timeout(PATIENCE * 2, self.response.chunk())
                .await
                .expect("something within the time of a heartbeat")
                .expect("the stream does not break")?;
            self.text.push_str(&String::from_utf8_lossy(&chunk));
        }
    }

    /// All events to the end of the stream.
    pub async fn rest(mut self) -> Vec<Event> {
        let mut events = Vec::new();
        while let Some(event) = self.next().await {
            events.push(event);
        }
        events
    }
}

/// Asks for a run's events after the event `known`.
pub async fn request(client: &Client, run: &str, known: u64) -> Response {
    client
        .request(Method::GET, &format!("/runs/{run}/events"))
        .header("last-event-id", known)
        .send()
        .await
        .expect("the server answers")
}

fn retry_of(block: &str) -> Option<Duration> {
    let line = block
        .lines()
        .find_map(|line| line.strip_prefix("retry: "))?;
    Some(Duration::from_millis(line.parse().expect("a number")))
}

fn read(block: &str) -> Option<Event> {
    let field = |name: &str| {
        let mut lines = block.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    };
    Some(Event {
        id: field("id").map(|id| id.parse().expect("a number")),
        kind: field("event")?.to_owned(),
        data: serde_json::from_str(field("data").expect("data")).expect("JSON"),
    })
}
