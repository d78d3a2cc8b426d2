use std::fmt;
use std::time::Duration;

use thiserror::Error;
use url::{Host, Url};

/// Where keys are published (RFC 7517 section 5), and how long to wait for them.
#[derive(Clone)]
pub struct RemoteKeysOptions {
    /// The address. Redirects are not followed.
    pub url: String,
    /// How long a whole answer may take, and with it the longest that the first tokens wait.
    /// Default 5 seconds.
    pub answer_within: Duration,
    /// Whether `http://` is good enough for another machine than this one. Whoever sits on the way
    /// can then sign anybody in: only for a network of one's own, such as that of a container
    /// engine. Default: no.
    pub allow_plain_http: bool,
}

impl RemoteKeysOptions {
    /// Keys at `url`, all else by default.
    pub fn at(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            answer_within: Duration::from_secs(5),
            allow_plain_http: false,
        }
    }

    pub(super) fn checked_url(&self) -> Result<Url, RemoteKeysOptionsError> {
        let url = Url::parse(self.url.trim()).ok();
        url.filter(|url| self.is_safe(url) && is_plain(url))
            .ok_or(RemoteKeysOptionsError::Url)
    }

    fn is_safe(&self, url: &Url) -> bool {
        match url.scheme() {
            "https" => url.has_host(),
            "http" => url.has_host() && (self.allow_plain_http || is_loopback(url)),
            _ => false,
        }
    }
}

/// An address with a user in it is not shown.
impl fmt::Debug for RemoteKeysOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = if self.url.contains('@') {
            "[hidden]"
        } else {
            &self.url
        };
        formatter
            .debug_struct("RemoteKeysOptions")
            .field("url", &url)
            .field("answer_within", &self.answer_within)
            .field("allow_plain_http", &self.allow_plain_http)
            .finish()
    }
}

/// What is wrong with [`RemoteKeysOptions`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoteKeysOptionsError {
    /// An address from which no key may be taken.
    #[error(
        "the address of the keys must begin with https://, or with http:// for this very machine, and carry no user, password or fragment"
    )]
    Url,
    /// The HTTP client cannot be made.
    #[error("the HTTP client for the keys cannot be set up")]
    Client(#[source] reqwest::Error),
}

/// Whether an address is on this very machine.
pub(super) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

fn is_plain(url: &Url) -> bool {
    url.username().is_empty() && url.password().is_none() && url.fragment().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_from_safe_addresses_alone() {
        let is_good = |url: &str| RemoteKeysOptions::at(url).checked_url().is_ok();
        for safe in [
            "https://abc.supabase.co/auth/v1/.well-known/jwks.json",
            "http://127.0.0.1:54321/auth/v1/.well-known/jwks.json",
            "http://[::1]:54321/jwks",
            "http://localhost:54321/jwks",
        ] {
            assert!(is_good(safe), "{safe}");
        }
        for unsafe_one in [
            "",
            "jwks.json",
            "http://abc.supabase.co/jwks",
            "http://localhost.evil.example/jwks",
            "http://10.0.0.1/jwks",
            "file:///etc/keys.json",
            "https://user:secret@abc.supabase.co/jwks",
            "https://abc.supabase.co/jwks#x",
        ] {
            assert!(!is_good(unsafe_one), "{unsafe_one}");
        }
    }

    #[test]
    fn plain_http_elsewhere_has_to_be_asked_for() {
        let options = RemoteKeysOptions {
            allow_plain_http: true,
            ..RemoteKeysOptions::at("http://kong:8000/auth/v1/.well-known/jwks.json")
        };

        assert!(options.checked_url().is_ok());
    }

    #[test]
    fn debug_output_holds_no_password() {
        let options = RemoteKeysOptions::at("https://user:hunter2@abc.supabase.co/jwks");

        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
