//! Requests with bounds: on time, on size, and on what gets into an error.

use std::time::Duration;

use atelier_domain::ports::ComfyError;
use bytes::{Bytes, BytesMut};
use futures_util::{Stream, StreamExt};
use reqwest::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Body, Client, RequestBuilder, Response, StatusCode};
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::timeout;
use url::Url;

use crate::options::{ComfyOptions, ComfyOptionsError};

/// The largest answer that is read. A queue holds everybody's whole graphs,
/// and the list of node classes has megabytes.
const MAX_LONG_ANSWER: usize = 64 * 1024 * 1024;
const MAX_ANSWER: usize = 16 * 1024 * 1024;

/// How long an idle connection is kept; ComfyUI keeps them a little longer.
const IDLE: Duration = Duration::from_secs(45);

/// The slowest way to a backend that is waited for.
const SLOWEST_BYTES_PER_SECOND: u64 = 256 * 1024;

/// How much to expect of a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    /// The longest silence.
    silence: Duration,
    max_bytes: usize,
}

/// An answer that is neither a failure of the server's nor of the credentials.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) body: Bytes,
    what: &'static str,
}

/// The peer was silent for too long.
#[derive(Debug, Error)]
#[error("no byte came for {silence_ms} ms")]
pub(crate) struct Silent {
    silence_ms: u128,
}

impl Silent {
    pub(crate) fn after(silence: Duration) -> Self {
        Self {
            silence_ms: silence.as_millis(),
        }
    }
}

/// One backend's HTTP interface.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    client: Client,
    base: Url,
    answer_timeout: Duration,
    catalogue_timeout: Duration,
}

impl Transport {
    pub(crate) fn new(options: &ComfyOptions) -> Result<Self, ComfyOptionsError> {
        let mut headers = HeaderMap::new();
        if let Some(authorization) = options.authorization()? {
            headers.insert(AUTHORIZATION, authorization);
        }
        let client = Client::builder()
            .default_headers(headers)
            // A login page is no answer, and whoever redirects must not get the credentials.
            .redirect(Policy::none())
            .no_proxy()
            .connect_timeout(options.connect_timeout)
            .pool_idle_timeout(IDLE)
            .build()
            .map_err(ComfyOptionsError::Client)?;
        Ok(Self {
            client,
            base: options.base()?,
            answer_timeout: options.answer_timeout,
            catalogue_timeout: options.catalogue_timeout,
        })
    }

    /// The address of a path below the base, its segments as they are.
    pub(crate) fn url(&self, segments: &[&str]) -> Url {
        let mut url = self.base.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// For an ordinary answer.
    pub(crate) fn ordinary(&self) -> Allowance {
        Allowance {
            silence: self.answer_timeout,
            max_bytes: MAX_ANSWER,
        }
    }

    /// For an answer with everybody's graphs.
    pub(crate) fn long(&self) -> Allowance {
        Allowance {
            silence: self.answer_timeout,
            max_bytes: MAX_LONG_ANSWER,
        }
    }

    /// For the list of node classes.
    pub(crate) fn catalogue(&self) -> Allowance {
        Allowance {
            silence: self.catalogue_timeout,
            max_bytes: MAX_LONG_ANSWER,
        }
    }

    /// Asks for something, and once more if the connection broke.
    pub(crate) async fn get(
        &self,
        what: &'static str,
        segments: &[&str],
        allowance: Allowance,
    ) -> Result<Answer, ComfyError> {
        self.get_url(what, self.url(segments), allowance).await
    }

    /// The same, at a whole address.
    pub(crate) async fn get_url(
        &self,
        what: &'static str,
        url: Url,
        allowance: Allowance,
    ) -> Result<Answer, ComfyError> {
        let ask = || self.ask(what, self.client.get(url.clone()), allowance);
        match ask().await {
            // A connection that was kept, and that a restart had cut: only reading may be done twice.
            Err(ComfyError::AnswerLost(source)) if !source.is::<Silent>() => ask().await,
            other => other,
        }
    }

    /// Sends JSON.
    pub(crate) async fn post(
        &self,
        what: &'static str,
        segments: &[&str],
        body: Vec<u8>,
    ) -> Result<Answer, ComfyError> {
        let json = HeaderValue::from_static("application/json");
        let request = self
            .client
            .post(self.url(segments))
            .header(CONTENT_TYPE, json)
            .body(body);
        self.ask(what, request, self.ordinary()).await
    }

    /// Sends a body of `length` bytes. The whole may take as long as its bytes need at the
    /// slowest speed that is worth waiting for, and as an answer takes.
    pub(crate) async fn upload(
        &self,
        what: &'static str,
        segments: &[&str],
        content_type: HeaderValue,
        length: u64,
        body: Body,
    ) -> Result<Answer, ComfyError> {
        let request = self
            .client
            .post(self.url(segments))
            .header(CONTENT_TYPE, content_type)
            .header(CONTENT_LENGTH, length)
            .body(body);
        let allowance = Allowance {
            silence: self.answer_timeout + Duration::from_secs(length / SLOWEST_BYTES_PER_SECOND),
            max_bytes: MAX_ANSWER,
        };
        self.ask(what, request, allowance).await
    }

    /// Asks for the headers of an answer, and once more if the connection broke.
    pub(crate) async fn look(&self, url: Url) -> Result<Response, ComfyError> {
        let ask = || send(self.client.head(url.clone()), self.answer_timeout);
        let sent = match ask().await {
            Err(ComfyError::AnswerLost(source)) if !source.is::<Silent>() => ask().await,
            other => other,
        };
        judged(sent?)
    }

    /// Sends a request whose answer is to be streamed.
    pub(crate) async fn open(&self, url: Url) -> Result<Response, ComfyError> {
        judged(send(self.client.get(url), self.answer_timeout).await?)
    }

    /// The body of an answer, bounded in time alone.
    pub(crate) fn stream(
        &self,
        response: Response,
    ) -> impl Stream<Item = Result<Bytes, ComfyError>> + Send + use<> {
        let silence = self.answer_timeout;
        let body = Box::pin(response.bytes_stream());
        futures_util::stream::unfold(Some(body), move |body| async move {
            let mut body = body?;
            match timeout(silence, body.next()).await {
                Ok(Some(Ok(chunk))) => Some((Ok(chunk), Some(body))),
                Ok(Some(Err(error))) => Some((Err(failure(error)), None)),
                Ok(None) => None,
                Err(_elapsed) => Some((
                    Err(ComfyError::AnswerLost(Box::new(Silent::after(silence)))),
                    None,
                )),
            }
        })
        .fuse()
    }

    async fn ask(
        &self,
        what: &'static str,
        request: RequestBuilder,
        allowance: Allowance,
    ) -> Result<Answer, ComfyError> {
        let mut response = judged(send(request, allowance.silence).await?)?;
        let status = response.status();
        let mut body = BytesMut::new();
        loop {
            let chunk = timeout(allowance.silence, response.chunk()).await;
            match chunk.map_err(|_elapsed| {
                ComfyError::AnswerLost(Box::new(Silent::after(allowance.silence)))
            })? {
                Ok(Some(chunk)) if body.len() + chunk.len() > allowance.max_bytes => {
                    return Err(ComfyError::Protocol(format!(
                        "{what} has more than {} bytes",
                        allowance.max_bytes
                    )));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) => break,
                Err(error) => return Err(failure(error)),
            }
        }
        Ok(Answer {
            status,
            body: body.freeze(),
            what,
        })
    }
}

impl Answer {
    /// The JSON of an answer with status 200.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ComfyError> {
        if self.status != StatusCode::OK {
            return Err(self.unexpected());
        }
        serde_json::from_slice(&self.body).map_err(|_detail| self.unexpected())
    }

    /// What is to be said of an answer that ComfyUI does not give.
    pub(crate) fn unexpected(&self) -> ComfyError {
        if self.status == StatusCode::OK {
            ComfyError::Protocol(format!("{} is not the expected JSON", self.what))
        } else {
            ComfyError::Protocol(format!(
                "{} came with status {}",
                self.what,
                self.status.as_u16()
            ))
        }
    }
}

async fn send(request: RequestBuilder, silence: Duration) -> Result<Response, ComfyError> {
    match timeout(silence, request.send()).await {
        Ok(sent) => sent.map_err(failure),
        Err(_elapsed) => Err(ComfyError::AnswerLost(Box::new(Silent::after(silence)))),
    }
}

fn judged(response: Response) -> Result<Response, ComfyError> {
    let status = response.status();
    let is_page = response
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.trim_start().starts_with("text/html"));
    match status.as_u16() {
        300..=399 | 401 | 403 | 407 => Err(ComfyError::Unauthorized {
            status: status.as_u16(),
        }),
        // ComfyUI sends no pages to us: this is a login form.
        200..=299 if is_page => Err(ComfyError::Unauthorized {
            status: status.as_u16(),
        }),
        500..=599 => Err(ComfyError::ServerError {
            status: status.as_u16(),
        }),
        _ => Ok(response),
    }
}

fn failure(error: reqwest::Error) -> ComfyError {
    if error.is_connect() {
        ComfyError::Unreachable(Box::new(error))
    } else {
        // Whatever else it is, the request may have gone out.
        ComfyError::AnswerLost(Box::new(error))
    }
}
