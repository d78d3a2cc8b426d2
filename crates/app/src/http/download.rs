//! Files on their way out.

use actix_web::body::SizedStream;
use actix_web::http::Method;
use actix_web::http::header::{
    ACCEPT_RANGES, CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_RANGE, CONTENT_SECURITY_POLICY,
    CONTENT_TYPE, ETAG, HeaderValue,
};
use actix_web::{HttpRequest, HttpResponse};
use atelier_domain::digest::Sha256Digest;
use atelier_domain::ports::{BlobError, BlobKey, BlobStore, ByteStream};
use futures_util::StreamExt as _;

use super::etag::none_match_hits;
use super::problem::Problem;
use super::range::{Wanted, wanted};

/// A stored file, and how it is to be shown.
#[derive(Debug)]
pub(crate) struct Download<'a> {
    /// Where its bytes are.
    pub(crate) key: &'a BlobKey,
    /// How many there are.
    pub(crate) size_bytes: u64,
    /// Their digest, which is also the entity tag.
    pub(crate) sha256: Sha256Digest,
    /// The media type, as somebody claimed it.
    pub(crate) content_type: &'a str,
    /// The name, as somebody chose it.
    pub(crate) filename: &'a str,
}

/// Media types that browsers show without running anything.
const SHOWN: [&str; 12] = [
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "image/avif",
    "video/mp4",
    "video/webm",
    "audio/flac",
    "audio/mpeg",
    "audio/ogg",
    "audio/wav",
    "text/plain",
];

impl Download<'_> {
    /// Answers with the file, a range of it, or 304.
    ///
    /// # Errors
    /// `gone` if the store has no such object; `range-not-satisfiable`, 416;
    /// whatever the store says.
    pub(crate) async fn respond(
        &self,
        request: &HttpRequest,
        blobs: &dyn BlobStore,
        gone: fn() -> Problem,
    ) -> Result<HttpResponse, Problem> {
        let tag = format!("\"{}\"", self.sha256);
        if none_match_hits(request.headers(), &tag) {
            return Ok(HttpResponse::NotModified()
                .insert_header((ETAG, tag))
                .insert_header((CACHE_CONTROL, "private, no-cache"))
                .finish());
        }
        let range = match wanted(request.headers(), self.size_bytes, &tag) {
            Wanted::Whole => None,
            Wanted::Part(range) => Some(range),
            Wanted::Unsatisfiable => return Err(Problem::range_not_satisfiable(self.size_bytes)),
        };
        let mut response = match range {
            None => HttpResponse::Ok(),
            Some(_) => HttpResponse::PartialContent(),
        };
        if let Some(range) = range {
            let last = range.end.saturating_sub(1);
            response.insert_header((
                CONTENT_RANGE,
                format!("bytes {}-{last}/{}", range.start, self.size_bytes),
            ));
        }
        let length = range.map_or(self.size_bytes, |range| range.end - range.start);
        let bytes: ByteStream<BlobError> = if request.method() == Method::HEAD {
            Box::pin(futures_util::stream::empty())
        } else {
            match blobs.reader(self.key, range).await {
                Ok(reader) => reader.bytes,
                Err(error @ BlobError::NotFound(_)) => return Err(gone().because(error)),
                Err(error) => return Err(error.into()),
            }
        };
        Ok(response
            .insert_header((ETAG, tag))
            .insert_header((ACCEPT_RANGES, "bytes"))
            .insert_header((CACHE_CONTROL, "private, no-cache"))
            .insert_header((CONTENT_TYPE, self.media_type()))
            .insert_header((CONTENT_DISPOSITION, self.disposition()))
            // The file may be a page with scripts: it gets an origin of its own.
            .insert_header((CONTENT_SECURITY_POLICY, "sandbox; default-src 'none'"))
            .body(SizedStream::new(length, bytes.map(logged))))
    }

    fn media_type(&self) -> HeaderValue {
        let looks_right = self
            .content_type
            .split_once('/')
            .is_some_and(|(kind, rest)| !kind.is_empty() && !rest.is_empty());
        HeaderValue::from_str(self.content_type)
            .ok()
            .filter(|_| looks_right)
            .unwrap_or(HeaderValue::from_static("application/octet-stream"))
    }

    /// `Content-Disposition` by RFC 6266: a name in plain ASCII for old
    /// clients, and the true one.
    fn disposition(&self) -> String {
        let essence = self
            .content_type
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        let kind = if SHOWN
            .iter()
            .any(|shown| shown.eq_ignore_ascii_case(essence))
        {
            "inline"
        } else {
            "attachment"
        };
        let plain: String = self
            .filename
            .chars()
            .map(|character| match character {
                '"' | '\\' | '%' | '/' => '_',
                character if character.is_ascii_graphic() || character == ' ' => character,
                _ => '_',
            })
            .collect();
        if plain == self.filename {
            return format!("{kind}; filename=\"{plain}\"");
        }
        format!(
            "{kind}; filename=\"{plain}\"; filename*=UTF-8''{}",
            extended(self.filename)
        )
    }
}

/// Writes a value as RFC 8187 says: everything but its `attr-char` in percent
/// signs.
fn extended(text: &str) -> String {
    use std::fmt::Write as _;

    let mut written = String::with_capacity(text.len() * 3);
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            written.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _infallible = write!(written, "%{byte:02X}");
        }
    }
    written
}

/// A body that breaks off has no status left to tell it: the log does.
fn logged<T>(chunk: Result<T, BlobError>) -> Result<T, BlobError> {
    chunk.inspect_err(|error| {
        tracing::error!(error = %crate::logging::Chain(error), "a download broke off");
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disposition(filename: &str, content_type: &str) -> String {
        Download {
            key: &BlobKey::parse("a").unwrap(),
            size_bytes: 1,
            sha256: Sha256Digest::new([0; 32]),
            content_type,
            filename,
        }
        .disposition()
    }

    #[test]
    fn pictures_are_shown_and_pages_are_saved() {
        assert_eq!(
            disposition("a_00001_.png", "image/png"),
            "inline; filename=\"a_00001_.png\""
        );
        for content_type in [
            "image/svg+xml",
            "text/html; charset=utf-8",
            "application/pdf",
        ] {
            assert!(
                disposition("a", content_type).starts_with("attachment;"),
                "{content_type}"
            );
        }
    }

    #[test]
    fn a_hostile_name_stays_within_its_quotes() {
        assert_eq!(
            disposition("ä\"\r\nX: 1;%41.png", "image/png"),
            "inline; filename=\"____X: 1;_41.png\"; filename*=UTF-8''%C3%A4%22%0D%0AX%3A%201%3B%2541.png"
        );
    }
}
