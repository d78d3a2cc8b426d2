//! Requests with bounds: on time, on size, and on what gets into an error.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use reqwest::header::{HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, RequestBuilder, Response};
use thiserror::Error;
use tokio::time::timeout;
use url::Url;

use crate::options::{DriveOptions, DriveOptionsError, is_loopback};

/// The largest answer that is read: one file's metadata, or an error.
const MAX_ANSWER: usize = 1024 * 1024;

/// The longest pause that is believed.
const MAX_PAUSE: Duration = Duration::from_hours(24);

/// What went wrong between us and Google, and may go better next time.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error("no byte came for {0} ms")]
    Silent(u128),
    #[error("the connection failed")]
    Connection(#[source] reqwest::Error),
    #[error("Google answered with status {0}")]
    Status(u16),
    #[error("Google limits how many requests are made just now")]
    Limited,
    #[error("the answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("{received} bytes came instead of {announced}")]
    Short { received: u64, announced: u64 },
}

impl Trouble {
    fn silent(silence: Duration) -> Self {
        Self::Silent(silence.as_millis())
    }

    pub(crate) fn connection(error: reqwest::Error) -> Self {
        // The address names the file, and the file may be somebody else's business.
        Self::Connection(error.without_url())
    }
}

/// The HTTP client, and where Google is.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    pub(crate) client: Client,
    api: Url,
    token: Url,
    answer_timeout: Duration,
    stall_timeout: Duration,
}

impl Transport {
    pub(crate) fn new(options: &DriveOptions) -> Result<Self, DriveOptionsError> {
        let (api, token) = (options.api()?, options.token()?);
        let mut builder = Client::builder()
            // Whoever redirects must not get the credentials.
            .redirect(Policy::none())
            .connect_timeout(options.connect_timeout);
        if is_loopback(&api) || is_loopback(&token) {
            builder = builder.no_proxy();
        }
        Ok(Self {
            client: builder.build().map_err(DriveOptionsError::Client)?,
            api,
            token,
            answer_timeout: options.answer_timeout,
            stall_timeout: options.stall_timeout,
        })
    }

    /// The address of a file.
    pub(crate) fn file_url(&self, id: &str) -> Url {
        let mut url = self.api.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["files", id]);
        }
        url
    }

    pub(crate) fn api_url(&self) -> &Url {
        &self.api
    }

    pub(crate) fn token_url(&self) -> Url {
        self.token.clone()
    }

    /// Sends a request, and waits for the head of the answer.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, Trouble> {
        match timeout(self.answer_timeout, request.send()).await {
            Ok(sent) => sent.map_err(Trouble::connection),
            Err(_elapsed) => Err(Trouble::silent(self.answer_timeout)),
        }
    }

    /// Reads the body of an answer that is no file.
    pub(crate) async fn body(&self, mut response: Response) -> Result<Bytes, Trouble> {
        let mut body = BytesMut::new();
        while let Some(chunk) = chunk(&mut response, self.answer_timeout).await? {
            if body.len() + chunk.len() > MAX_ANSWER {
                return Err(Trouble::TooLong);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// Reads some bytes of a file; `None` at the end.
    pub(crate) async fn file_bytes(
        &self,
        response: &mut Response,
    ) -> Result<Option<Bytes>, Trouble> {
        chunk(response, self.stall_timeout).await
    }
}

async fn chunk(response: &mut Response, silence: Duration) -> Result<Option<Bytes>, Trouble> {
    match timeout(silence, response.chunk()).await {
        Ok(read) => read.map_err(Trouble::connection),
        Err(_elapsed) => Err(Trouble::silent(silence)),
    }
}

/// How long an answer asks us to wait: in seconds, or until a time.
pub(crate) fn retry_after(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let told = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    let pause = match told.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_no_number) => {
            let time = DateTime::parse_from_rfc2822(told).ok()?;
            (time.to_utc() - now).to_std().unwrap_or_default()
        }
    };
    Some(pause.min(MAX_PAUSE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_are_told_in_seconds_or_as_a_time() {
        let now = DateTime::from_timestamp(1_767_225_600, 0).unwrap();
        let told = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };

        assert_eq!(told("7"), Some(Duration::from_secs(7)));
        assert_eq!(
            told("Thu, 01 Jan 2026 00:01:00 GMT"),
            Some(Duration::from_mins(1))
        );
        assert_eq!(told("Wed, 31 Dec 2025 00:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(told("99999999999"), Some(MAX_PAUSE));
        assert_eq!(told("soon"), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
