//! What an answer says: may the file be had, and what is it.

use std::time::Duration;

use atelier_domain::digest::Sha256Digest;
use atelier_domain::ports::RemoteError;
use chrono::{DateTime, FixedOffset};
use reqwest::StatusCode;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, HeaderMap, HeaderName, RETRY_AFTER,
};

use crate::hops::Landing;
use crate::link::host_and_port;
use crate::sites;
use crate::trouble::{Trouble, nonsense};

/// Hugging Face's word for the digest and the size of a file, on the way to
/// where it is stored.
const LINKED_ETAG: HeaderName = HeaderName::from_static("x-linked-etag");
const LINKED_SIZE: HeaderName = HeaderName::from_static("x-linked-size");

/// The longest wish to be left alone that is told on.
const MAX_RETRY_AFTER: Duration = Duration::from_hours(24);

/// The longest revision that is kept.
const MAX_REVISION: usize = 500;

/// What is told of a file before one gets to its bytes.
#[derive(Debug, Default)]
pub(crate) struct Linked {
    etag: Option<String>,
    size_bytes: Option<u64>,
}

impl Linked {
    /// Learns from one answer of the host that was asked at first.
    pub(crate) fn learn(&mut self, headers: &HeaderMap) {
        let etag = text(headers, &LINKED_ETAG).map(|etag| etag.strip_prefix("W/").unwrap_or(etag));
        if let Some(etag) = etag.and_then(unquoted) {
            self.etag = Some(etag);
        }
        if let Some(size) = text(headers, &LINKED_SIZE).and_then(number) {
            self.size_bytes = Some(size);
        }
    }

    pub(crate) fn size_bytes(&self) -> Option<u64> {
        self.size_bytes
    }

    /// Large files are known by their SHA-256, others by something else.
    pub(crate) fn sha256(&self) -> Option<Sha256Digest> {
        self.etag.as_ref()?.parse().ok()
    }
}

/// What changes whenever the file's bytes do.
pub(crate) fn revision(landing: &Landing) -> Option<String> {
    let own = || text(landing.response.headers(), &ETAG).and_then(unquoted);
    landing.linked.etag.clone().or_else(own)
}

/// Lets through answers with a file's bytes, and 416.
pub(crate) fn judge(landing: &Landing, had_token: bool) -> Result<(), RemoteError> {
    let host = host_and_port(&landing.url);
    let status = landing.response.status();
    let headers = landing.response.headers();
    match status.as_u16() {
        200 | 206 => judge_form(landing, &host, had_token),
        416 => Ok(()),
        401 | 403 if landing.is_front => Err(not_signed_in(&host, had_token)),
        404 | 410 => Err(RemoteError::NotFound(format!(
            "{host} has no such file, or does not show it to us"
        ))),
        451 => Err(RemoteError::Refused(format!(
            "{host} may not hand the file out for legal reasons"
        ))),
        // A storage host that refuses was given a link that ran out meanwhile.
        401 | 403 | 408 | 425 | 429 | 500..=599 => Err(Trouble::Status {
            host,
            status: status.as_u16(),
        }
        .unavailable_for(retry_after(headers))),
        400..=499 => Err(RemoteError::Refused(format!(
            "{host} refuses the request for the file with status {}",
            status.as_u16()
        ))),
        _ => Err(nonsense("a status that a download does not have")),
    }
}

fn judge_form(landing: &Landing, host: &str, had_token: bool) -> Result<(), RemoteError> {
    let headers = landing.response.headers();
    let kind = text(headers, &CONTENT_TYPE).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    let is_page = ["text/html", "application/xhtml+xml"]
        .iter()
        .any(|page| kind.eq_ignore_ascii_case(page));
    if is_page && landing.url.path().ends_with("/login") {
        return Err(not_signed_in(host, had_token));
    }
    if is_page {
        return Err(RemoteError::Refused(format!(
            "the link leads to a page of {host}, not to a file: {}",
            sites::instead_of_a_page(&landing.url)
        )));
    }
    let is_packed = headers
        .get_all(CONTENT_ENCODING)
        .iter()
        .any(|value| !value.as_bytes().eq_ignore_ascii_case(b"identity"));
    if is_packed {
        return Err(RemoteError::Refused(format!(
            "{host} compresses the file on its way though it was asked not to, so it cannot be \
             checked: download it yourself and upload it"
        )));
    }
    Ok(())
}

fn not_signed_in(host: &str, had_token: bool) -> RemoteError {
    RemoteError::Unauthorized(if had_token {
        format!(
            "{host} does not hand the file out to the token that was sent: check that it is still \
             good and may read the file, and accept the model's terms on its page if it has some"
        )
    } else {
        format!(
            "{host} hands the file out only to somebody who is signed in: send a token of yours \
             that may read it, and accept the model's terms on its page if it has some"
        )
    })
}

/// How long they ask us to wait: seconds, or a time, which is compared with
/// the time that they say it is.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let told = text(headers, &RETRY_AFTER)?;
    let wait = if let Some(seconds) = number(told) {
        Duration::from_secs(seconds)
    } else {
        let until = time(told)?;
        let now = text(headers, &DATE).and_then(time)?;
        (until - now).to_std().unwrap_or_default()
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

fn time(text: &str) -> Option<DateTime<FixedOffset>> {
    DateTime::parse_from_rfc2822(text).ok()
}

/// Which part of the file an answer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) first: u64,
    /// How many bytes the part has, at least one.
    pub(crate) count: u64,
    /// How many bytes the file has, where that is told.
    pub(crate) total: Option<u64>,
}

impl Part {
    /// The part of an answer with status 206. `None` if it tells none, or an
    /// impossible one.
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let (range, total) = content_range(headers)?;
        let (first, last) = range.split_once('-')?;
        let (first, last) = (number(first)?, number(last)?);
        let total = match total {
            "*" => None,
            told => Some(number(told)?),
        };
        let count = last.checked_sub(first)?.checked_add(1)?;
        let fits = total.is_none_or(|total| last < total);
        fits.then_some(Self {
            first,
            count,
            total,
        })
    }

    /// How many bytes of the file come after the part, where that is known.
    pub(crate) fn left_out(&self) -> u64 {
        let end = self.first.saturating_add(self.count);
        self.total.map_or(0, |total| total.saturating_sub(end))
    }
}

/// How many bytes the file has, by an answer with status 416.
pub(crate) fn total_of_unsatisfied(headers: &HeaderMap) -> Option<u64> {
    match content_range(headers)? {
        ("*", total) => number(total),
        _ => None,
    }
}

fn content_range(headers: &HeaderMap) -> Option<(&str, &str)> {
    let (unit, rest) = text(headers, &CONTENT_RANGE)?.trim().split_once(' ')?;
    let (range, total) = rest.trim().split_once('/')?;
    unit.eq_ignore_ascii_case("bytes").then_some((range, total))
}

/// Whether an answer is a part of a file.
pub(crate) fn is_part(status: StatusCode) -> bool {
    status == StatusCode::PARTIAL_CONTENT
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

/// A strong entity tag without its quotes. A weak one says nothing of bytes.
fn unquoted(etag: &str) -> Option<String> {
    let inner = etag.strip_prefix('"')?.strip_suffix('"')?;
    (1..=MAX_REVISION)
        .contains(&inner.len())
        .then(|| inner.to_owned())
}

#[cfg(test)]
mod tests {
    use reqwest::header::HeaderValue;

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_str(value).unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn a_part_says_where_it_is() {
        for (told, part) in [
            ("bytes 0-0/100", Some((0, 1, Some(100)))),
            ("bytes 10-99/100", Some((10, 90, Some(100)))),
            ("Bytes 10-99/*", Some((10, 90, None))),
            ("bytes 10-100/100", None),
            ("bytes 10-9/100", None),
            ("bytes */100", None),
            ("bytes -5/100", None),
            ("bytes 0-+5/100", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes 0-99999999999999999999/*", None),
            ("pages 0-1/2", None),
            ("bytes 0-1", None),
            ("", None),
        ] {
            let read = Part::of(&headers(&[("content-range", told)]));
            let expected = part.map(|(first, count, total)| Part {
                first,
                count,
                total,
            });
            assert_eq!(read, expected, "{told}");
        }
        assert_eq!(Part::of(&headers(&[])), None);
    }

    #[test]
    fn an_unsatisfied_range_says_the_size() {
        for (told, total) in [("bytes */100", Some(100)), ("bytes */*", None), ("x", None)] {
            let headers = headers(&[("content-range", told)]);
            assert_eq!(total_of_unsatisfied(&headers), total, "{told}");
        }
    }

    #[test]
    fn a_wait_is_told_in_seconds_or_as_a_time() {
        let now = ("date", "Sun, 06 Nov 1994 08:49:37 GMT");
        for (told, seconds) in [
            (vec![("retry-after", "120")], Some(120)),
            (vec![("retry-after", "999999999999")], Some(24 * 60 * 60)),
            (
                vec![("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT"), now],
                Some(30),
            ),
            (
                vec![("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT"), now],
                Some(0),
            ),
            (vec![("retry-after", "Sun, 06 Nov 1994 08:50:07 GMT")], None),
            (vec![("retry-after", "-1"), now], None),
            (vec![("retry-after", "soon"), now], None),
            (vec![], None),
        ] {
            assert_eq!(
                retry_after(&headers(&told)),
                seconds.map(Duration::from_secs),
                "{told:?}"
            );
        }
    }

    #[test]
    fn only_a_digest_is_taken_for_one() {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        for (etag, sha256) in [
            (format!("\"{digest}\""), Some(digest)),
            (format!("W/\"{digest}\""), Some(digest)),
            (
                "\"d6ceb92ce9e3c83ab146dc8e92a93517ac1cc66f\"".to_owned(),
                None,
            ),
            (digest.to_owned(), None),
            ("\"\"".to_owned(), None),
        ] {
            let mut linked = Linked::default();
            linked.learn(&headers(&[("x-linked-etag", &etag)]));
            assert_eq!(
                linked.sha256().map(|digest| digest.to_string()).as_deref(),
                sha256,
                "{etag}"
            );
        }
    }

    #[test]
    fn a_weak_tag_is_no_revision() {
        assert_eq!(unquoted("\"abc\"").as_deref(), Some("abc"));
        for etag in ["W/\"abc\"", "abc", "\"", "\"\"", ""] {
            assert_eq!(unquoted(etag), None, "{etag}");
        }
    }
}
