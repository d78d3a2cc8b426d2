//! One request for published keys, with bounds on time and size.

use std::time::Duration;

use reqwest::header::{CACHE_CONTROL, HeaderMap};
use reqwest::redirect::Policy;
use reqwest::{Client, Response};
use thiserror::Error;
use tokio::time::timeout;
use url::Url;

use super::key_set::KeySet;
use super::options::{RemoteKeysOptions, RemoteKeysOptionsError, is_loopback};

/// The largest answer that is read, in bytes: real ones have a few thousand.
const MAX_ANSWER: usize = 256 * 1024;

/// How long keys are fresh, whatever the publisher says.
const FRESH_AT_MOST: Duration = Duration::from_mins(10);
const FRESH_AT_LEAST: Duration = Duration::from_mins(1);

/// Why there are no new keys.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    #[error("no whole answer came within {0} ms")]
    Silent(u128),
    #[error("the connection failed")]
    Connection(#[source] reqwest::Error),
    #[error("the answer is a redirect (status {0}), which is not followed")]
    Redirect(u16),
    #[error("the answer has status {0}")]
    Status(u16),
    #[error("the answer is longer than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("the answer is no JSON Web Key Set")]
    NoKeySet(#[source] serde_json::Error),
}

/// Where keys are published.
pub(super) struct Publisher {
    client: Client,
    url: Url,
    answer_within: Duration,
}

pub(super) struct Fetched {
    pub(super) keys: KeySet,
    pub(super) fresh_for: Duration,
}

impl Publisher {
    pub(super) fn new(options: &RemoteKeysOptions) -> Result<Self, RemoteKeysOptionsError> {
        let url = options.checked_url()?;
        let mut builder = Client::builder()
            // The keys of whoever redirects are as good as those of whom he redirects to.
            .redirect(Policy::none())
            .connect_timeout(options.answer_within);
        if is_loopback(&url) {
            builder = builder.no_proxy();
        }
        Ok(Self {
            client: builder.build().map_err(RemoteKeysOptionsError::Client)?,
            url,
            answer_within: options.answer_within,
        })
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    pub(super) async fn fetch(&self) -> Result<Fetched, Trouble> {
        match timeout(self.answer_within, self.answer()).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(Trouble::Silent(self.answer_within.as_millis())),
        }
    }

    async fn answer(&self) -> Result<Fetched, Trouble> {
        let request = self.client.get(self.url.clone());
        let response = request.send().await.map_err(Trouble::Connection)?;
        let status = response.status();
        if status.is_redirection() {
            return Err(Trouble::Redirect(status.as_u16()));
        }
        if status != reqwest::StatusCode::OK {
            return Err(Trouble::Status(status.as_u16()));
        }
        let fresh_for = fresh_for(response.headers());
        let body = body(response).await?;
        Ok(Fetched {
            keys: KeySet::parse(&body).map_err(Trouble::NoKeySet)?,
            fresh_for,
        })
    }
}

async fn body(mut response: Response) -> Result<Vec<u8>, Trouble> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(Trouble::Connection)? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(Trouble::TooLong);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// Ten minutes, or less where the publisher says so (RFC 9111 section 5.2.2), but never so little
/// that every token would ask again.
fn fresh_for(headers: &HeaderMap) -> Duration {
    let directives = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|directive| directive.trim().to_ascii_lowercase());
    let mut shortest = FRESH_AT_MOST;
    for directive in directives {
        let told = match directive.split_once('=') {
            Some(("max-age", seconds)) => seconds.trim_matches('"').parse().ok(),
            None if matches!(directive.as_str(), "no-store" | "no-cache") => Some(0),
            _ => None,
        };
        shortest = shortest.min(told.map_or(FRESH_AT_MOST, Duration::from_secs));
    }
    shortest.max(FRESH_AT_LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_fresh_for_one_to_ten_minutes_as_the_publisher_likes() {
        let told = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, text.parse().unwrap());
            fresh_for(&headers).as_secs()
        };

        assert_eq!(fresh_for(&HeaderMap::new()).as_secs(), 600);
        assert_eq!(told("public, max-age=600"), 600);
        assert_eq!(told("public, Max-Age=120"), 120);
        assert_eq!(told("max-age=\"120\""), 120);
        assert_eq!(told("max-age=31536000, immutable"), 600);
        assert_eq!(told("max-age=1"), 60);
        assert_eq!(told("no-store"), 60);
        assert_eq!(told("max-age=300, no-cache"), 60);
        assert_eq!(told("max-age=soon"), 600);
        assert_eq!(told("max-age=99999999999999999999999"), 600);
    }
}
