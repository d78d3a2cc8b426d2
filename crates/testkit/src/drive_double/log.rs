use hyper::HeaderMap;
use hyper::http::request::Parts;

use super::fault::Endpoint;

/// A request that came, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveRequest {
    /// What it is for; `None` for what the double does not have.
    pub endpoint: Option<Endpoint>,
    /// Its path.
    pub path: String,
    /// Its query, without the question mark; empty if there is none.
    pub query: String,
    /// Its access token.
    pub bearer: Option<String>,
    /// Its header `Range`.
    pub range: Option<String>,
    /// Its header `X-Goog-Drive-Resource-Keys`.
    pub resource_keys: Option<String>,
    /// Its header `Accept-Encoding`.
    pub accept_encoding: Option<String>,
}

impl DriveRequest {
    pub(super) fn new(parts: &Parts) -> Self {
        let path = parts.uri.path().to_owned();
        let query = parts.uri.query().unwrap_or_default().to_owned();
        let endpoint = if path == "/token" {
            Some(Endpoint::Token)
        } else if !path.starts_with("/drive/v3/files/") {
            None
        } else if query.split('&').any(|pair| pair == "alt=media") {
            Some(Endpoint::Download)
        } else {
            Some(Endpoint::Metadata)
        };
        let header = |name| text(&parts.headers, name);
        Self {
            endpoint,
            path,
            query,
            bearer: header("authorization")
                .and_then(|value| Some(value.strip_prefix("Bearer ")?.to_owned())),
            range: header("range"),
            resource_keys: header("x-goog-drive-resource-keys"),
            accept_encoding: header("accept-encoding"),
        }
    }

    /// The id of the file that it asks for.
    pub fn file_id(&self) -> Option<&str> {
        self.path.strip_prefix("/drive/v3/files/")
    }

    pub(super) fn parameter(&self, name: &str) -> Option<String> {
        url::form_urlencoded::parse(self.query.as_bytes())
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.into_owned())
    }
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.to_owned())
}
