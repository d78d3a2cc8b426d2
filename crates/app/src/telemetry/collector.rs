use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry_http::{HttpClient, HttpError, Request, Response};
use tokio::runtime::Handle;

/// How long a collector may take for one batch.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of an answer that are read: a success is a few.
const MAX_ANSWER: usize = 64 * 1024;

/// Brings spans to the collector. The library calls it on a thread without a runtime; the sockets
/// belong to the server's.
pub(super) struct CollectorClient {
    client: reqwest::Client,
    io: Handle,
    /// Whether the last batch was lost: one line tells of it, not one for each.
    failing: Arc<AtomicBool>,
}

impl CollectorClient {
    pub(super) fn new(io: Handle) -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .timeout(PATIENCE)
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self {
            client,
            io,
            failing: Arc::default(),
        })
    }

    fn note(&self, outcome: &Result<Response<Bytes>, HttpError>) {
        let trouble = match outcome {
            Ok(answer) if answer.status().is_success() => None,
            Ok(answer) => Some(format!("it answered {}", answer.status())),
            Err(error) => Some(error.to_string()),
        };
        let failed = self.failing.swap(trouble.is_some(), Ordering::Relaxed);
        match trouble {
            Some(error) if !failed => {
                tracing::warn!(error, "the collector takes no spans; they are lost");
            }
            None if failed => tracing::info!("the collector takes spans again"),
            _ => {}
        }
    }
}

impl fmt::Debug for CollectorClient {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CollectorClient")
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl HttpClient for CollectorClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let sending = self.io.spawn(send(self.client.clone(), request));
        let outcome = sending.await.map_err(HttpError::from).flatten();
        self.note(&outcome);
        outcome
    }
}

async fn send(
    client: reqwest::Client,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let (head, body) = request.into_parts();
    let sent = client
        .request(head.method, head.uri.to_string())
        .headers(head.headers)
        .body(body)
        .send();
    let mut answer = sent.await.map_err(reqwest::Error::without_url)?;
    let mut read = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(reqwest::Error::without_url)? {
        if read.len() + piece.len() > MAX_ANSWER {
            return Err("the collector's answer is too long".into());
        }
        read.extend_from_slice(&piece);
    }
    let mut told = Response::new(Bytes::from(read));
    *told.status_mut() = answer.status();
    *told.headers_mut() = std::mem::take(answer.headers_mut());
    Ok(told)
}
