//! How often one person may ask.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use actix_web::http::header::{HeaderMap, HeaderName, HeaderValue};
use actix_web::{HttpMessage as _, HttpRequest};
use atelier_domain::ids::UserId;
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::{StateInformationMiddleware, StateSnapshot};
use governor::state::keyed::DefaultKeyedStateStore;
use governor::{Quota, RateLimiter};

use super::problem::{Problem, ProblemCode};

/// What is left (draft-ietf-httpapi-ratelimit-headers-11).
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
/// What there is in all.
const RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");

/// The headers, for pages of other sites that are to read them.
pub(crate) const HEADERS: [HeaderName; 2] = [RATE_LIMIT, RATE_LIMIT_POLICY];

/// The window, in seconds.
const WINDOW: u32 = 60;
/// After so many requests, people who have not asked for a while are forgotten.
const REQUESTS_BETWEEN_CLEANINGS: u32 = 10_000;

type People =
    RateLimiter<UserId, DefaultKeyedStateStore<UserId>, DefaultClock, StateInformationMiddleware>;

/// Counts everybody's requests, in this process.
#[derive(Debug)]
pub(crate) struct RateLimits {
    people: People,
    per_minute: u32,
    taken: AtomicU32,
}

/// What a person has left, kept with the request until it is answered.
#[derive(Clone, Copy, Debug)]
struct Left {
    quota: u32,
    requests: u32,
}

impl RateLimits {
    /// Lets everybody send so many requests a minute: all at once, or spread.
    pub(crate) fn per_minute(requests: NonZeroU32) -> Self {
        Self {
            people: RateLimiter::keyed(Quota::per_minute(requests)).with_middleware(),
            per_minute: requests.get(),
            taken: AtomicU32::new(0),
        }
    }

    /// Takes one request of a person's.
    ///
    /// # Errors
    /// `too-many-requests` with the time after which the next one is taken.
    pub(crate) fn take(&self, person: UserId, request: &HttpRequest) -> Result<(), Problem> {
        let taken = self.taken.fetch_add(1, Ordering::Relaxed);
        if taken.is_multiple_of(REQUESTS_BETWEEN_CLEANINGS) {
            self.people.retain_recent();
        }
        let outcome = self.people.check_key(&person);
        let requests = outcome
            .as_ref()
            .map_or(0, StateSnapshot::remaining_burst_capacity);
        request.extensions_mut().insert(Left {
            quota: self.per_minute,
            requests,
        });
        outcome.map(drop).map_err(|refused| {
            let wait = refused.wait_time_from(DefaultClock::default().now());
            Problem::new(
                ProblemCode::TooManyRequests,
                format!(
                    "Nobody may send more than {} requests a minute; wait a little.",
                    self.per_minute
                ),
            )
            .retry_after(Duration::from_secs(wait.as_secs().saturating_add(1)))
        })
    }
}

/// Says in an answer what its asker has left.
pub(crate) fn tell(request: &HttpRequest, headers: &mut HeaderMap) {
    let Some(left) = request.extensions().get::<Left>().copied() else {
        return;
    };
    let missing = u64::from(left.quota.saturating_sub(left.requests));
    let full_in = (missing * u64::from(WINDOW)).div_ceil(u64::from(left.quota.max(1)));
    let told = [
        (
            RATE_LIMIT,
            format!("\"default\";r={};t={full_in}", left.requests),
        ),
        (
            RATE_LIMIT_POLICY,
            format!("\"default\";q={};w={WINDOW}", left.quota),
        ),
    ];
    for (name, value) in told {
        if let Ok(value) = HeaderValue::try_from(value) {
            headers.insert(name, value);
        }
    }
}
