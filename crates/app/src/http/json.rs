//! JSON bodies, with every fault told at once.
//!
//! A body is split into its members without looking into them, and each member
//! is read by itself. So one wrong member hides no other, and a graph reaches
//! the domain as the text that was sent, however deep or large it is.

use std::fmt;

use actix_web::dev::Payload;
use actix_web::error::PayloadError;
use actix_web::http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap};
use actix_web::web::{Bytes, BytesMut};
use actix_web::{FromRequest, HttpRequest};
use atelier_domain::validation::{Violation, pointer_token};
use chrono::{DateTime, SubsecRound as _, Utc};
use futures_util::StreamExt as _;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use std::future::{Ready, ready};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::api::{Limits, api_of};
use super::problem::{Problem, ProblemCode};

const JSON: &str = "application/json";
pub(crate) const MERGE_PATCH: &str = "application/merge-patch+json";

const CANNOT_BE_TAKEN_AWAY: &str = "must not be null: it cannot be taken away";

/// Faults that are told of one body.
const MAX_VIOLATIONS: usize = 100;

/// A body that was not read yet: whoever is not signed in learns that before
/// anything is read.
pub(crate) struct JsonBody {
    headers: HeaderMap,
    payload: Payload,
    giving_up: CancellationToken,
}

impl fmt::Debug for JsonBody {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("JsonBody").finish_non_exhaustive()
    }
}

impl FromRequest for JsonBody {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        ready(api_of(request).map(|api| Self {
            headers: request.headers().clone(),
            payload: payload.take(),
            giving_up: api.giving_up().clone(),
        }))
    }
}

impl JsonBody {
    /// Reads a body that must be there, as `application/json`.
    pub(crate) async fn read(self, limits: &Limits) -> Result<Bytes, Problem> {
        self.check_type(&[JSON])?;
        self.collect(limits).await
    }

    /// Reads a merge patch (RFC 7396).
    pub(crate) async fn read_patch(self, limits: &Limits) -> Result<Bytes, Problem> {
        self.check_type(&[MERGE_PATCH, JSON])?;
        self.collect(limits).await
    }

    /// Reads a body that need not be there; `None` for an empty one.
    pub(crate) async fn read_optional(self, limits: &Limits) -> Result<Option<Bytes>, Problem> {
        let checked = self.check_type(&[JSON]);
        let body = self.collect(limits).await?;
        if body.is_empty() {
            return Ok(None);
        }
        checked.map(|()| Some(body))
    }

    fn check_type(&self, accepted: &[&str]) -> Result<(), Problem> {
        let names = accepted.join(" or ");
        let encoding = self.headers.get(CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Problem::new(
                ProblemCode::UnsupportedMediaType,
                "Send the body without a Content-Encoding.",
            ));
        }
        let Some(content_type) = self.headers.get(CONTENT_TYPE) else {
            return Err(Problem::new(
                ProblemCode::UnsupportedMediaType,
                format!("Send the header `Content-Type: {names}`."),
            ));
        };
        let essence = content_type
            .to_str()
            .unwrap_or_default()
            .split(';')
            .next()
            .unwrap_or_default()
            .trim();
        if accepted
            .iter()
            .any(|name| essence.eq_ignore_ascii_case(name))
        {
            Ok(())
        } else {
            Err(Problem::new(
                ProblemCode::UnsupportedMediaType,
                format!("Send {names}, and say so in the header `Content-Type`."),
            ))
        }
    }

    async fn collect(mut self, limits: &Limits) -> Result<Bytes, Problem> {
        let too_large = || Problem::too_large("A JSON body", limits.json_bytes as u64);
        let announced = content_length(&self.headers);
        if announced.is_some_and(|length| length > limits.json_bytes as u64) {
            return Err(too_large());
        }
        let deadline = Instant::now() + limits.body_wait;
        let mut body = BytesMut::new();
        loop {
            let until = deadline.min(Instant::now() + limits.chunk_wait);
            let next = tokio::select! {
                biased;
                () = self.giving_up.cancelled() => return Err(Problem::server_stops()),
                next = timeout_at(until, self.payload.next()) => next,
            };
            let Ok(chunk) = next else {
                return Err(too_slow());
            };
            let Some(chunk) = chunk else {
                return Ok(body.freeze());
            };
            let chunk = chunk.map_err(|error| broken_body(&error))?;
            if body.len() + chunk.len() > limits.json_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(&chunk);
        }
    }
}

/// How many bytes a request says it brings.
pub(crate) fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

pub(crate) fn too_slow() -> Problem {
    Problem::new(
        ProblemCode::RequestTimeout,
        "The next piece of the body took too long to come.",
    )
}

pub(crate) fn broken_body(error: &PayloadError) -> Problem {
    Problem::new(
        ProblemCode::BadRequest,
        "The body broke off, or is framed wrongly.",
    )
    .because(error.to_string())
}

/// The members of a JSON object. A reader takes out what it knows and calls
/// [`Members::finish`], which refuses what is left over.
#[derive(Debug)]
pub(crate) struct Members<'a> {
    members: Vec<(String, &'a RawValue)>,
    violations: Vec<Violation>,
}

impl<'a> Members<'a> {
    /// Splits a body into its members.
    ///
    /// # Errors
    /// `invalid-json`, 400, for what is no JSON; `validation`, 422, for JSON
    /// that is no object.
    pub(crate) fn parse(body: &'a [u8]) -> Result<Self, Problem> {
        let whole: &RawValue = serde_json::from_slice(body).map_err(|fault| {
            Problem::new(
                ProblemCode::InvalidJson,
                format!("The body is not JSON: {fault}."),
            )
        })?;
        if !whole.get().starts_with('{') {
            return Err(Problem::invalid("", "must be a JSON object"));
        }
        let RawMembers(members) = serde_json::from_str(whole.get()).map_err(|fault| {
            Problem::new(
                ProblemCode::InvalidJson,
                format!("The body is not JSON: {fault}."),
            )
        })?;
        Ok(Self {
            members,
            violations: Vec::new(),
        })
    }

    fn take(&mut self, name: &str) -> Option<&'a RawValue> {
        let mut found = None;
        let mut repeated = false;
        self.members.retain(|(member, value)| {
            if member == name {
                repeated |= found.is_some();
                found = Some(*value);
            }
            member != name
        });
        if repeated {
            self.refuse(name, "is there more than once");
        }
        found
    }

    fn refuse(&mut self, name: &str, detail: impl Into<String>) {
        self.violations
            .push(Violation::new(format!("/{}", pointer_token(name)), detail));
    }

    fn read<T: DeserializeOwned>(&mut self, name: &str, value: &RawValue) -> Option<T> {
        let mut deserializer = serde_json::Deserializer::from_str(value.get());
        match serde_path_to_error::deserialize(&mut deserializer) {
            Ok(value) => Some(value),
            Err(fault) => {
                let pointer = format!("/{}{}", pointer_token(name), below(fault.path()));
                let detail = without_position(&fault.into_inner().to_string());
                self.violations.push(Violation::new(pointer, detail));
                None
            }
        }
    }

    /// Takes a member that must be there. `None` where a fault was kept.
    pub(crate) fn required<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let Some(value) = self.take(name) else {
            self.refuse(name, "is missing");
            return None;
        };
        self.read(name, value)
    }

    /// Takes a member that need not be there, and not be null.
    pub(crate) fn optional<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        self.nullable(name).flatten()
    }

    /// Takes a time that need not be there, as RFC 3339 writes it.
    pub(crate) fn optional_time(&mut self, name: &str) -> Option<DateTime<Utc>> {
        let text: String = self.optional(name)?;
        let time = DateTime::parse_from_rfc3339(&text).ok();
        if time.is_none() {
            self.refuse(
                name,
                "must be a time such as 2026-11-20T23:00:00Z (RFC 3339)",
            );
        }
        time.map(|time| time.to_utc().trunc_subsecs(6))
    }

    /// Takes a member that need not be there; `Some(None)` for null.
    #[expect(
        clippy::option_option,
        reason = "absent and null are two things in a merge patch"
    )]
    pub(crate) fn nullable<T: DeserializeOwned>(&mut self, name: &str) -> Option<Option<T>> {
        let value = self.take(name)?;
        if value.get() == "null" {
            return Some(None);
        }
        self.read(name, value).map(Some)
    }

    /// Takes a member that need not be there and cannot be taken away.
    pub(crate) fn lasting<T: DeserializeOwned>(&mut self, name: &str) -> Option<T> {
        let value = self.nullable(name)?;
        if value.is_none() {
            self.refuse(name, CANNOT_BE_TAKEN_AWAY);
        }
        value
    }

    /// Takes the text of a member that must be there, as it was sent, without
    /// looking into it.
    pub(crate) fn required_raw(&mut self, name: &str) -> Option<String> {
        let raw = self.take(name);
        if raw.is_none() {
            self.refuse(name, "is missing");
        }
        raw.map(|value| value.get().to_owned())
    }

    /// Takes the text of a member that need not be there and cannot be taken
    /// away.
    pub(crate) fn lasting_raw(&mut self, name: &str) -> Option<String> {
        let raw = self.take(name)?;
        if raw.get() == "null" {
            self.refuse(name, CANNOT_BE_TAKEN_AWAY);
            return None;
        }
        Some(raw.get().to_owned())
    }

    /// Refuses what nobody took, and everything that was wrong before.
    pub(crate) fn finish(mut self) -> Result<(), Problem> {
        for (name, _) in std::mem::take(&mut self.members) {
            self.refuse(&name, "is not a member of this request");
        }
        self.violations.truncate(MAX_VIOLATIONS);
        if self.violations.is_empty() {
            Ok(())
        } else {
            Err(Problem::validation(self.violations))
        }
    }
}

fn below(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;

    path.iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            Segment::Map { key } => format!("/{}", pointer_token(key)),
            Segment::Enum { variant } => format!("/{}", pointer_token(variant)),
            Segment::Unknown => String::new(),
        })
        .collect()
}

/// Cuts off serde's line and column: they count within the member alone.
fn without_position(text: &str) -> String {
    text.rsplit_once(" at line ")
        .map_or(text, |(words, _)| words)
        .to_owned()
}

struct RawMembers<'a>(Vec<(String, &'a RawValue)>);

impl<'de> Deserialize<'de> for RawMembers<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = RawMembers<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(RawMembers(members))
            }
        }

        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pointers(problem: &Problem) -> Vec<String> {
        problem.to_json()["errors"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|error| error["pointer"].as_str().unwrap().to_owned())
            .collect()
    }

    #[test]
    fn every_wrong_member_is_told_at_once() {
        let body = br#"{"tags": ["a", 5], "is_public": "yes", "ty/po": 1, "description": null}"#;
        let mut members = Members::parse(body).unwrap();

        let name = members.required::<String>("name");
        let tags = members.optional::<Vec<String>>("tags");
        let public = members.optional::<bool>("is_public");
        let description = members.nullable::<String>("description");

        assert_eq!(
            (name, tags, public, description),
            (None, None, None, Some(None))
        );
        assert_eq!(
            pointers(&members.finish().unwrap_err()),
            ["/name", "/tags/1", "/is_public", "/ty~1po"]
        );
    }

    #[test]
    fn a_member_given_twice_is_refused() {
        let mut members = Members::parse(br#"{"name": "a", "name": "b"}"#).unwrap();

        let _name = members.required::<String>("name");

        assert_eq!(pointers(&members.finish().unwrap_err()), ["/name"]);
    }

    #[test]
    fn a_member_of_any_depth_passes_as_text() {
        let deep = format!("{}1{}", "[".repeat(100_000), "]".repeat(100_000));
        let body = format!("{{\"workflow_json\": {deep}}}");
        let mut members = Members::parse(body.as_bytes()).unwrap();

        assert_eq!(
            members.required_raw("workflow_json").as_deref(),
            Some(deep.as_str())
        );
        assert!(members.finish().is_ok());
    }

    #[test]
    fn what_is_no_json_and_what_is_no_object_are_two_things() {
        for text in ["", "{", "{\"a\": }", "\u{feff}{}", "{} {}"] {
            let problem = Members::parse(text.as_bytes()).unwrap_err();
            assert_eq!(problem.code(), ProblemCode::InvalidJson, "{text:?}");
        }
        let not_utf8 = Members::parse(b"{\"a\": \"\xff\"}").unwrap_err();
        assert_eq!(not_utf8.code(), ProblemCode::InvalidJson);
        for text in ["[]", "null", "\"a\""] {
            let problem = Members::parse(text.as_bytes()).unwrap_err();
            assert_eq!(pointers(&problem), [""], "{text:?}");
        }
    }
}
