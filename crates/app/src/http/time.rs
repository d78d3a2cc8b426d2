//! Times on the wire.

use chrono::{DateTime, Datelike, SecondsFormat, Timelike, Utc};
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A time as RFC 3339 writes it, in UTC, with microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ToSchema)]
#[schema(value_type = String, format = DateTime, example = "2026-11-20T23:00:00.000000Z")]
pub(crate) struct Timestamp(pub(crate) DateTime<Utc>);

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let usual = usual(self.0);
        match usual.as_ref().map(|text| std::str::from_utf8(text)) {
            Some(Ok(text)) => serializer.serialize_str(text),
            _ => serializer.serialize_str(&self.0.to_rfc3339_opts(SecondsFormat::Micros, true)),
        }
    }
}

/// A list has a hundred of them, for which chrono's general way took 6 % of the server's time; `None` for leap seconds and for
/// years of more or less than four digits.
fn usual(time: DateTime<Utc>) -> Option<[u8; 27]> {
    let year = u32::try_from(time.year())
        .ok()
        .filter(|year| *year <= 9999)?;
    let micros = Some(time.nanosecond() / 1000).filter(|micros| *micros <= 999_999)?;
    let pairs = [
        (0, year / 100),
        (2, year),
        (5, time.month()),
        (8, time.day()),
        (11, time.hour()),
        (14, time.minute()),
        (17, time.second()),
        (20, micros / 10_000),
        (22, micros / 100),
        (24, micros),
    ];
    let mut text = *b"0000-00-00T00:00:00.000000Z";
    for (at, number) in pairs {
        text.get_mut(at..at + 2)?
            .copy_from_slice(&two_digits(number));
    }
    Some(text)
}

/// The last two.
fn two_digits(number: u32) -> [u8; 2] {
    [number / 10, number].map(|number| {
        let [digit, ..] = (number % 10).to_le_bytes();
        b'0' + digit
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_time_is_written_as_rfc_3339_has_it() {
        for written in [
            "2026-11-20T23:00:00.000000Z",
            "2024-02-29T07:08:09.012345Z",
            "0001-01-01T00:00:00.999999Z",
            "9999-12-31T23:59:59.100000Z",
            "2016-12-31T23:59:60.500000Z",
            "+10000-01-01T00:00:00.000000Z",
            "-0001-01-01T00:00:00.000000Z",
        ] {
            let time: DateTime<Utc> = written.parse().unwrap();

            let json = serde_json::to_value(Timestamp(time)).unwrap();

            assert_eq!(json, written);
        }
    }
}
