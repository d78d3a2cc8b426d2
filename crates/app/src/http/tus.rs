//! Resumable uploads as tus 1.0.0 has them
//! (`reference/platform/PROTOCOLS.md` section 7.5): the headers.

use std::future::{Ready, ready};

use actix_web::body::MessageBody;
use actix_web::dev::{Payload, ServiceRequest, ServiceResponse};
use actix_web::guard::{Guard, fn_guard};
use actix_web::http::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, HttpDate};
use actix_web::middleware::Next;
use actix_web::{Error, FromRequest, HttpRequest};
use chrono::{DateTime, Utc};

use super::problem::{Problem, ProblemCode};
use super::query::digits;

/// The one version there is.
pub(crate) const VERSION: &str = "1.0.0";
/// What is known besides the core.
pub(crate) const EXTENSIONS: &str = "creation,creation-with-upload,expiration,termination";

pub(crate) const TUS_EXTENSION: HeaderName = HeaderName::from_static("tus-extension");
pub(crate) const TUS_MAX_SIZE: HeaderName = HeaderName::from_static("tus-max-size");
pub(crate) const TUS_VERSION: HeaderName = HeaderName::from_static("tus-version");
pub(crate) const UPLOAD_EXPIRES: HeaderName = HeaderName::from_static("upload-expires");
pub(crate) const UPLOAD_LENGTH: HeaderName = HeaderName::from_static("upload-length");
pub(crate) const UPLOAD_METADATA: HeaderName = HeaderName::from_static("upload-metadata");
pub(crate) const UPLOAD_OFFSET: HeaderName = HeaderName::from_static("upload-offset");
const METHOD_OVERRIDE: HeaderName = HeaderName::from_static("x-http-method-override");

/// All of the protocol's headers, for pages of other sites.
pub(crate) const HEADERS: [HeaderName; 10] = [
    METHOD_OVERRIDE,
    TUS_EXTENSION,
    TUS_MAX_SIZE,
    TUS_RESUMABLE,
    TUS_VERSION,
    UPLOAD_EXPIRES,
    UPLOAD_DEFER_LENGTH,
    UPLOAD_LENGTH,
    UPLOAD_METADATA,
    UPLOAD_OFFSET,
];

const TUS_RESUMABLE: HeaderName = HeaderName::from_static("tus-resumable");
const UPLOAD_DEFER_LENGTH: HeaderName = HeaderName::from_static("upload-defer-length");

/// What bytes of an upload are.
pub(crate) const OFFSET_OCTET_STREAM: &str = "application/offset+octet-stream";

/// Names the version in every answer, errors included.
pub(crate) async fn name_the_version(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<impl MessageBody>, Error> {
    let mut response = next.call(request).await?;
    response
        .headers_mut()
        .insert(TUS_RESUMABLE, HeaderValue::from_static(VERSION));
    Ok(response)
}

/// Whether a POST stands for another method: for clients whose proxies know
/// GET and POST alone.
pub(crate) fn stands_for(method: &'static str) -> impl Guard {
    fn_guard(move |context| {
        let named = context.head().headers().get(METHOD_OVERRIDE);
        named.is_some_and(|named| named.as_bytes().eq_ignore_ascii_case(method.as_bytes()))
    })
}

/// The headers of a request, read when the handler asks: whoever is not signed
/// in learns that first.
#[derive(Debug)]
pub(crate) struct TusRequest(HeaderMap);

impl FromRequest for TusRequest {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _payload: &mut Payload) -> Self::Future {
        ready(Ok(Self(request.headers().clone())))
    }
}

impl TusRequest {
    /// All headers.
    pub(crate) fn headers(&self) -> &HeaderMap {
        &self.0
    }

    /// Makes sure that the client speaks our version.
    ///
    /// # Errors
    /// `unsupported-tus-version`, 412.
    pub(crate) fn check_version(&self) -> Result<(), Problem> {
        if self
            .0
            .get(TUS_RESUMABLE)
            .is_some_and(|named| named == VERSION)
        {
            return Ok(());
        }
        let told = Problem::new(
            ProblemCode::UnsupportedTusVersion,
            "Send the header `Tus-Resumable: 1.0.0`; no other version is known here.",
        );
        Err(told.with_header(TUS_VERSION, HeaderValue::from_static(VERSION)))
    }

    /// Where the bytes of the request begin.
    pub(crate) fn offset(&self) -> Result<u64, Problem> {
        self.number(
            &UPLOAD_OFFSET,
            "Upload-Offset",
            "the byte that these begin at",
        )
    }

    /// How many bytes the upload has in all.
    pub(crate) fn length(&self) -> Result<u64, Problem> {
        if self.0.contains_key(UPLOAD_DEFER_LENGTH) {
            return Err(Problem::new(
                ProblemCode::BadRequest,
                "An upload must say how long it is from its beginning: send `Upload-Length`, not `Upload-Defer-Length`.",
            ));
        }
        self.number(
            &UPLOAD_LENGTH,
            "Upload-Length",
            "the size of the file in bytes",
        )
    }

    fn number(&self, name: &HeaderName, shown: &str, what: &str) -> Result<u64, Problem> {
        let mut values = self.0.get_all(name);
        let number = match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok().and_then(digits),
            _ => None,
        };
        number.ok_or_else(|| {
            Problem::new(
                ProblemCode::BadRequest,
                format!("Send the header `{shown}` once: {what}, as a plain number."),
            )
        })
    }

    /// Makes sure that the body is said to be bytes of an upload.
    ///
    /// # Errors
    /// `unsupported-media-type`, 415.
    pub(crate) fn check_type(&self) -> Result<(), Problem> {
        if self.brings_bytes() {
            return Ok(());
        }
        Err(Problem::new(
            ProblemCode::UnsupportedMediaType,
            format!("Send the header `Content-Type: {OFFSET_OCTET_STREAM}`."),
        ))
    }

    /// Whether the body is said to be bytes of an upload.
    pub(crate) fn brings_bytes(&self) -> bool {
        let named = self.0.get(CONTENT_TYPE);
        named.is_some_and(|named| {
            named
                .as_bytes()
                .eq_ignore_ascii_case(OFFSET_OCTET_STREAM.as_bytes())
        })
    }
}

/// A time as HTTP writes it, for `Upload-Expires`.
pub(crate) fn http_date(time: DateTime<Utc>) -> String {
    HttpDate::from(std::time::SystemTime::from(time)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(HeaderName, &'static str)]) -> TusRequest {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(name.clone(), HeaderValue::from_static(value));
        }
        TusRequest(map)
    }

    #[test]
    fn a_number_is_plain_and_there_once() {
        let length = |value| request(&[(UPLOAD_LENGTH, value)]).length().ok();

        assert_eq!(length("0"), Some(0));
        assert_eq!(length("18446744073709551615"), Some(u64::MAX));
        for wrong in ["", "-1", "+1", "1.0", "0x10", "1 ", "18446744073709551616"] {
            assert_eq!(length(wrong), None, "{wrong:?}");
        }
        let twice = request(&[(UPLOAD_OFFSET, "1"), (UPLOAD_OFFSET, "1")]);
        assert!(twice.offset().is_err());
    }

    #[test]
    fn a_length_that_comes_later_is_refused_in_words() {
        let later = request(&[(UPLOAD_DEFER_LENGTH, "1")]).length().unwrap_err();

        assert!(later.detail().contains("Upload-Defer-Length"));
    }

    #[test]
    fn a_time_is_written_as_http_has_it() {
        let time = DateTime::from_timestamp(784_111_777, 0).unwrap();

        assert_eq!(http_date(time), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
