use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use reqwest::header::HeaderValue;
use thiserror::Error;
use url::Url;

/// Where a ComfyUI backend is, and how patient to be with it. `Debug` shows no
/// address that carries credentials.
#[derive(Clone)]
pub struct ComfyOptions {
    /// Its address, such as `http://comfyui:8188` or
    /// `https://gpu.example/comfy`: what stands in the path is put before
    /// every path of ComfyUI's.
    pub base_url: String,
    /// What whoever stands in front of it wants. ComfyUI itself asks for
    /// nothing (`reference/comfyui/PROTOCOL.md` section 11).
    pub credentials: ComfyCredentials,
    /// How long a connection may take. Default 5 seconds.
    pub connect_timeout: Duration,
    /// The longest silence while an answer is awaited or read. Default 30
    /// seconds; less than 10 gives up on backends that load a model.
    pub answer_timeout: Duration,
    /// The same for the list of all node classes, which is long, and which
    /// ComfyUI makes anew each time. Default 2 minutes.
    pub catalogue_timeout: Duration,
    /// How often a socket is pinged: ComfyUI itself never does, and proxies
    /// cut what is idle. Default 10 seconds.
    pub ping_interval: Duration,
    /// How long a socket may be silent, pongs included, before it counts as
    /// dead. Default 30 seconds.
    pub pong_timeout: Duration,
}

impl Default for ComfyOptions {
    fn default() -> Self {
        Self {
            base_url: "http://comfyui:8188".to_owned(),
            credentials: ComfyCredentials::None,
            connect_timeout: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(30),
            catalogue_timeout: Duration::from_mins(2),
            ping_interval: Duration::from_secs(10),
            pong_timeout: Duration::from_secs(30),
        }
    }
}

impl fmt::Debug for ComfyOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let base_url = if self.base_url.contains('@') {
            "[hidden]"
        } else {
            &self.base_url
        };
        formatter
            .debug_struct("ComfyOptions")
            .field("base_url", &base_url)
            .field("credentials", &self.credentials)
            .field("connect_timeout", &self.connect_timeout)
            .field("answer_timeout", &self.answer_timeout)
            .field("catalogue_timeout", &self.catalogue_timeout)
            .field("ping_interval", &self.ping_interval)
            .field("pong_timeout", &self.pong_timeout)
            .finish()
    }
}

/// What is sent with every request and every upgrade. `Debug` never shows it.
#[derive(Clone, Default, PartialEq, Eq)]
pub enum ComfyCredentials {
    /// Nothing.
    #[default]
    None,
    /// `Authorization: Basic` (RFC 7617).
    Basic {
        /// The user; holds no colon.
        user: String,
        /// The password.
        password: String,
    },
    /// `Authorization: Bearer` (RFC 6750).
    Bearer {
        /// The token.
        token: String,
    },
}

impl fmt::Debug for ComfyCredentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "None",
            Self::Basic { .. } => "Basic([hidden])",
            Self::Bearer { .. } => "Bearer([hidden])",
        })
    }
}

/// What is wrong with [`ComfyOptions`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ComfyOptionsError {
    /// No address of an HTTP server.
    #[error("the ComfyUI address must begin with http:// or https:// and name a host")]
    Url,
    /// The address carries credentials.
    #[error("the ComfyUI address must not carry a user or a password: give them on their own")]
    UrlCredentials,
    /// The address goes on after its path.
    #[error("the ComfyUI address must not carry a query or a fragment")]
    UrlExtras,
    /// The credentials cannot be sent.
    #[error("the ComfyUI credentials cannot be sent: {0}")]
    Credentials(&'static str),
    /// The HTTP client cannot be made.
    #[error("the HTTP client for ComfyUI cannot be set up")]
    Client(#[source] reqwest::Error),
}

impl ComfyOptions {
    /// The address, its path ending in a slash.
    pub(crate) fn base(&self) -> Result<Url, ComfyOptionsError> {
        let mut url = Url::parse(&self.base_url).map_err(|_no_url| ComfyOptionsError::Url)?;
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
            return Err(ComfyOptionsError::Url);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(ComfyOptionsError::UrlCredentials);
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err(ComfyOptionsError::UrlExtras);
        }
        url.set_path(&format!("{}/", url.path().trim_end_matches('/')));
        Ok(url)
    }

    /// The value of the header `Authorization`.
    pub(crate) fn authorization(&self) -> Result<Option<HeaderValue>, ComfyOptionsError> {
        let text = match &self.credentials {
            ComfyCredentials::None => return Ok(None),
            ComfyCredentials::Basic { user, .. } if user.contains(':') => {
                return Err(ComfyOptionsError::Credentials("the user holds a colon"));
            }
            ComfyCredentials::Basic { user, password } => {
                format!(
                    "Basic {}",
                    BASE64_STANDARD.encode(format!("{user}:{password}"))
                )
            }
            ComfyCredentials::Bearer { token } => format!("Bearer {token}"),
        };
        let mut value = HeaderValue::from_str(&text).map_err(|_invalid| {
            ComfyOptionsError::Credentials("the token holds characters that no header may hold")
        })?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(base_url: &str) -> ComfyOptions {
        ComfyOptions {
            base_url: base_url.to_owned(),
            ..ComfyOptions::default()
        }
    }

    #[test]
    fn an_address_keeps_its_path() {
        for (given, base) in [
            ("http://comfyui:8188", "http://comfyui:8188/"),
            ("http://comfyui:8188/", "http://comfyui:8188/"),
            ("https://gpu.example/a/b//", "https://gpu.example/a/b/"),
        ] {
            assert_eq!(options(given).base().unwrap().as_str(), base);
        }
    }

    #[test]
    fn other_addresses_are_refused() {
        for given in [
            "",
            "comfyui:8188",
            "ws://comfyui",
            "http://",
            "http://u:p@comfyui",
            "http://comfyui?token=x",
            "http://c#x",
        ] {
            assert!(options(given).base().is_err(), "{given}");
        }
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let basic = ComfyCredentials::Basic {
            user: "user".to_owned(),
            password: "pass word".to_owned(),
        };
        let bearer = ComfyCredentials::Bearer {
            token: "very-secret".to_owned(),
        };
        let header = |credentials: &ComfyCredentials| {
            let options = ComfyOptions {
                credentials: credentials.clone(),
                ..ComfyOptions::default()
            };
            assert!(
                !format!("{options:?}").contains("secret")
                    && !format!("{options:?}").contains("pass word")
            );
            options.authorization().unwrap().unwrap()
        };

        assert_eq!(header(&basic), "Basic dXNlcjpwYXNzIHdvcmQ=");
        assert_eq!(header(&bearer), "Bearer very-secret");
        assert!(!format!("{:?}", header(&bearer)).contains("secret"));
    }

    #[test]
    fn a_password_in_the_address_is_not_shown() {
        let shown = format!("{:?}", options("http://user:very-secret@comfyui"));

        assert!(!shown.contains("very-secret"), "{shown}");
    }

    #[test]
    fn credentials_that_no_header_can_carry_are_refused() {
        for credentials in [
            ComfyCredentials::Basic {
                user: "a:b".to_owned(),
                password: String::new(),
            },
            ComfyCredentials::Bearer {
                token: "a\nb".to_owned(),
            },
        ] {
            let options = ComfyOptions {
                credentials,
                ..ComfyOptions::default()
            };
            assert!(options.authorization().is_err());
        }
    }
}
