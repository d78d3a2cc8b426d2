//! Byte ranges (RFC 9110 section 14).

use actix_web::http::header::{HeaderMap, IF_RANGE, RANGE};
use atelier_domain::ports::ByteRange;

use super::query::digits;

/// Which bytes a request wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of them.
    Whole,
    /// Some of them.
    Part(ByteRange),
    /// Some that do not exist.
    Unsatisfiable,
}

/// Reads `Range` and `If-Range` for a thing of `size` bytes with the strong
/// entity tag `tag`.
///
/// What is malformed, has another unit, or asks for several ranges at once is
/// answered with the whole, as RFC 9110 section 14.2 allows.
pub(crate) fn wanted(headers: &HeaderMap, size: u64, tag: &str) -> Wanted {
    let Some(range) = headers.get(RANGE).and_then(|value| value.to_str().ok()) else {
        return Wanted::Whole;
    };
    // A date, or a weak tag, proves nothing about these very bytes.
    let same = |value: &actix_web::http::header::HeaderValue| {
        value.as_bytes().trim_ascii() == tag.as_bytes()
    };
    if headers.get(IF_RANGE).is_some_and(|value| !same(value)) {
        return Wanted::Whole;
    }
    let Some((unit, set)) = range.split_once('=') else {
        return Wanted::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Wanted::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else {
        return Wanted::Whole;
    };
    match (first.trim(), last.trim()) {
        ("", suffix) => digits::<u64>(suffix).map_or(Wanted::Whole, |length| {
            part(size.saturating_sub(length), size, size)
        }),
        (first, "") => digits(first).map_or(Wanted::Whole, |start| part(start, size, size)),
        (first, last) => match (digits::<u64>(first), digits::<u64>(last)) {
            (Some(start), Some(last)) if start <= last => part(start, last.saturating_add(1), size),
            _ => Wanted::Whole,
        },
    }
}

fn part(start: u64, end: u64, size: u64) -> Wanted {
    let end = end.min(size);
    if start < end {
        Wanted::Part(ByteRange { start, end })
    } else {
        Wanted::Unsatisfiable
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    const TAG: &str = "\"abc\"";

    fn of(range: &'static str, if_range: Option<&'static str>, size: u64) -> Wanted {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static(range));
        if let Some(value) = if_range {
            headers.insert(IF_RANGE, HeaderValue::from_static(value));
        }
        wanted(&headers, size, TAG)
    }

    fn bytes(start: u64, end: u64) -> Wanted {
        Wanted::Part(ByteRange { start, end })
    }

    #[test]
    fn the_three_shapes_of_a_range() {
        assert_eq!(of("bytes=0-0", None, 10), bytes(0, 1));
        assert_eq!(of("bytes=3-", None, 10), bytes(3, 10));
        assert_eq!(of("bytes=-4", None, 10), bytes(6, 10));
        assert_eq!(of("bytes=-40", None, 10), bytes(0, 10));
        assert_eq!(of("Bytes=8-99", None, 10), bytes(8, 10));
        assert_eq!(of("bytes=0-18446744073709551615", None, 10), bytes(0, 10));
    }

    #[test]
    fn what_lies_outside_is_unsatisfiable() {
        for (range, size) in [
            ("bytes=10-", 10),
            ("bytes=-0", 10),
            ("bytes=0-", 0),
            ("bytes=-1", 0),
        ] {
            assert_eq!(
                of(range, None, size),
                Wanted::Unsatisfiable,
                "{range} of {size}"
            );
        }
    }

    #[test]
    fn what_is_no_single_range_of_bytes_gives_the_whole() {
        for range in [
            "bytes=2-1",
            "bytes=1-2,4-5",
            "lines=1-2",
            "bytes",
            "bytes=a-b",
            "bytes=-",
            "bytes=+1-2",
        ] {
            assert_eq!(of(range, None, 10), Wanted::Whole, "{range}");
        }
    }

    #[test]
    fn a_range_of_other_bytes_gives_the_whole() {
        assert_eq!(of("bytes=1-2", Some(TAG), 10), bytes(1, 3));
        for other in ["\"def\"", "W/\"abc\"", "Fri, 20 Nov 2026 00:00:00 GMT"] {
            assert_eq!(of("bytes=1-2", Some(other), 10), Wanted::Whole, "{other}");
        }
    }
}
