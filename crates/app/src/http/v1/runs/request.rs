//! What people say of a run that they ask for, and what they are answered.

use std::fmt;

use atelier_domain::idempotency::StoredAnswer;
use atelier_domain::run::{Run, RunPriority};
use serde::de::{Deserialize, Deserializer, Error, Visitor};
use utoipa::IntoResponses;

use super::dto::{RunBody, location};
use crate::http::json::Members;
use crate::http::openapi::ProblemResponse;

/// How a request for a run is answered.
#[derive(IntoResponses)]
#[expect(
    dead_code,
    clippy::large_enum_variant,
    reason = "describes what `accepted` and problems make, and is never made itself"
)]
pub(crate) enum RunAccepted {
    /// The run waits for a worker.
    #[response(
        status = 202,
        headers(
            ("Location" = String, description = "Where the run is."),
            ("Idempotent-Replayed" = Option<bool>, description = "`true` where the request came before."),
        )
    )]
    Accepted(RunBody<'static>),
    #[response(status = 409)]
    Conflict(#[ref_response] ProblemResponse),
}

/// Takes the member `priority`.
pub(crate) fn priority_member(members: &mut Members<'_>) -> Option<RunPriority> {
    let Whole(value) = members.optional::<Whole<-10, 10>>("priority")?;
    RunPriority::new(value)
}

/// Takes the member `timeout_s`.
pub(crate) fn timeout_member(members: &mut Members<'_>) -> Option<u32> {
    let Whole(value) = members.optional::<Whole<1, { u32::MAX as i64 }>>("timeout_s")?;
    u32::try_from(value).ok()
}

/// The answer to whoever asked for a run: 202, the run, and where it is.
#[expect(clippy::expect_used, reason = "a run is plain data with text keys")]
pub(crate) fn accepted(run: &Run) -> StoredAnswer {
    StoredAnswer {
        status: 202,
        location: Some(location(run.id)),
        body: serde_json::to_string(&RunBody::from(run)).expect("a run is plain data"),
    }
}

/// An integer from `MIN` to `MAX`; anything else is refused in these words.
struct Whole<const MIN: i64, const MAX: i64>(i64);

impl<'de, const MIN: i64, const MAX: i64> Deserialize<'de> for Whole<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read<const MIN: i64, const MAX: i64>;

        impl<const MIN: i64, const MAX: i64> Visitor<'_> for Read<MIN, MAX> {
            type Value = i64;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "an integer from {MIN} to {MAX}")
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<i64, E> {
                if (MIN..=MAX).contains(&value) {
                    Ok(value)
                } else {
                    Err(E::custom(format!("must be an integer from {MIN} to {MAX}")))
                }
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<i64, E> {
                self.visit_i64(i64::try_from(value).unwrap_or(i64::MAX))
            }
        }

        deserializer.deserialize_i64(Read::<MIN, MAX>).map(Self)
    }
}
