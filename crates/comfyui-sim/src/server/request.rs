//! Reading requests.

use axum::body::Bytes;
use axum::extract::{FromRequestParts as _, Query, Request};
use axum::http::header;
use axum::response::Response;
use serde_json::Value;

use super::reply;
use crate::instance::Instance;

/// The query parameters; the first one of a name counts.
#[derive(Debug, Default)]
pub(super) struct Parameters(Vec<(String, String)>);

impl Parameters {
    /// Reads the query of a request; one that cannot be read is empty.
    pub(super) fn of(uri: &axum::http::Uri) -> Self {
        Query::<Vec<(String, String)>>::try_from_uri(uri)
            .map(|Query(pairs)| Self(pairs))
            .unwrap_or_default()
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// The whole body, or the 413 answer.
pub(super) async fn body(instance: &Instance, request: Request) -> Result<Bytes, Response> {
    let limit = instance.options.max_upload_bytes;
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > limit) {
        return Err(reply::too_large(limit));
    }
    let bound = usize::try_from(limit).unwrap_or(usize::MAX);
    axum::body::to_bytes(request.into_body(), bound)
        .await
        .map_err(|_too_long| reply::too_large(limit))
}

/// The body as JSON, whatever its content type says; 500 if it is none.
pub(super) async fn json_body(instance: &Instance, request: Request) -> Result<Value, Response> {
    let body = body(instance, request).await?;
    serde_json::from_slice(&body).map_err(|_no_json| reply::crash())
}

/// The WebSocket upgrade of a request, if it asks for one.
pub(super) async fn upgrade(request: Request) -> Option<axum::extract::ws::WebSocketUpgrade> {
    let (mut parts, _body) = request.into_parts();
    axum::extract::ws::WebSocketUpgrade::from_request_parts(&mut parts, &())
        .await
        .ok()
}

/// `%2F` and the like in a path segment. Bytes that are no UTF-8 become the replacement character.
pub(super) fn decode(segment: &str) -> String {
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let escaped = match after {
            [high, low, ..] if *first == b'%' => hex_digit(*high).zip(hex_digit(*low)),
            _ => None,
        };
        if let Some((high, low)) = escaped {
            bytes.push(high * 16 + low);
            rest = after.get(2..).unwrap_or_default();
        } else {
            bytes.push(*first);
            rest = after;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use super::decode;

    #[test]
    fn escapes_are_decoded_and_broken_ones_kept() {
        assert_eq!(decode("a%2Fb%20c"), "a/b c");
        assert_eq!(decode("100%"), "100%");
        assert_eq!(decode("%zz%c3%bc"), "%zzü");
    }
}
