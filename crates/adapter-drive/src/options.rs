use std::fmt;
use std::time::Duration;

use thiserror::Error;
use url::{Host, Url};

use crate::credentials::DriveCredentials;

/// How this server gets at Google Drive, and how patient it is. `Debug` shows
/// no credential.
#[derive(Clone)]
pub struct DriveOptions {
    /// This server's own credentials; without them, only files that somebody
    /// lends a token for can be read.
    pub credentials: Option<DriveCredentials>,
    /// Where the Drive API is; another place than Google's is for tests.
    pub api_base_url: String,
    /// Where access tokens are; another place than Google's is for tests.
    pub token_url: String,
    /// How long a connection may take. Default 5 seconds.
    pub connect_timeout: Duration,
    /// The longest silence while an answer is awaited. Default 10 seconds.
    pub answer_timeout: Duration,
    /// The longest silence in the middle of a download. Default 30 seconds.
    pub stall_timeout: Duration,
    /// How long to wait before the second attempt; the third one waits twice
    /// as long, and some chance is added each time. Default 1 second.
    pub retry_pause: Duration,
    /// How long after the first attempt another one may begin. Default 8
    /// seconds.
    pub retry_within: Duration,
}

impl Default for DriveOptions {
    fn default() -> Self {
        Self {
            credentials: None,
            api_base_url: "https://www.googleapis.com/drive/v3".to_owned(),
            token_url: "https://oauth2.googleapis.com/token".to_owned(),
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_secs(30),
            retry_pause: Duration::from_secs(1),
            retry_within: Duration::from_secs(8),
        }
    }
}

impl fmt::Debug for DriveOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let public = |url: &str| {
            if url.contains('@') {
                "[hidden]".to_owned()
            } else {
                url.to_owned()
            }
        };
        formatter
            .debug_struct("DriveOptions")
            .field("credentials", &self.credentials)
            .field("api_base_url", &public(&self.api_base_url))
            .field("token_url", &public(&self.token_url))
            .field("connect_timeout", &self.connect_timeout)
            .field("answer_timeout", &self.answer_timeout)
            .field("stall_timeout", &self.stall_timeout)
            .field("retry_pause", &self.retry_pause)
            .field("retry_within", &self.retry_within)
            .finish()
    }
}

/// What is wrong with [`DriveOptions`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DriveOptionsError {
    /// An address to which no credential may be sent.
    #[error(
        "the address of {0} must begin with https://, or with http:// for this very machine, and carry no user, password, query or fragment"
    )]
    Url(&'static str),
    /// The HTTP client cannot be made.
    #[error("the HTTP client for Google Drive cannot be set up")]
    Client(#[source] reqwest::Error),
}

impl DriveOptions {
    pub(crate) fn api(&self) -> Result<Url, DriveOptionsError> {
        checked(&self.api_base_url).ok_or(DriveOptionsError::Url("the Drive API"))
    }

    pub(crate) fn token(&self) -> Result<Url, DriveOptionsError> {
        checked(&self.token_url).ok_or(DriveOptionsError::Url("Google's access tokens"))
    }
}

/// Whether an address is on this very machine.
pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn checked(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let is_safe = match url.scheme() {
        "https" => url.has_host(),
        "http" => is_loopback(&url),
        _ => false,
    };
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    (is_safe && is_plain).then_some(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_safe_addresses_alone() {
        for safe in [
            "https://www.googleapis.com/drive/v3",
            "http://127.0.0.1:4711/drive/v3",
            "http://[::1]:4711",
            "http://localhost:4711",
        ] {
            assert!(checked(safe).is_some(), "{safe}");
        }
        for unsafe_one in [
            "",
            "http://www.googleapis.com/drive/v3",
            "http://127.0.0.1.evil.example",
            "http://localhost.evil.example",
            "http://10.0.0.1",
            "ftp://localhost",
            "https://user@www.googleapis.com",
            "https://www.googleapis.com?key=x",
            "https://www.googleapis.com#x",
        ] {
            assert!(checked(unsafe_one).is_none(), "{unsafe_one}");
        }
    }
}
