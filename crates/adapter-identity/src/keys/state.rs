//! Which keys are known just now, and whether to ask for new ones: the rules of
//! `reference/platform/PROTOCOLS.md` section 2.1 without any I/O.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::fetch::{Fetched, Trouble};
use super::key_set::KeySet;

/// How long keys are good that cannot be fetched anew.
const GOOD_FOR: Duration = Duration::from_hours(1);

/// The least time between two fetches while there are keys.
const PAUSE: Duration = Duration::from_secs(30);

/// The same while there are none, and nobody with a published key can come in.
const PAUSE_WITHOUT_KEYS: Duration = Duration::from_secs(5);

/// Ends, by losing its sender, when a fetch has ended.
pub(super) type Landing = watch::Receiver<()>;

#[derive(Default)]
pub(super) struct State {
    held: Option<Held>,
    /// The fetch that is under way; one whose sender is gone has ended.
    flight: Option<Landing>,
    last_fetch: Option<DateTime<Utc>>,
    /// What the last fetch failed of; `None` after a good one.
    trouble: Option<Arc<Trouble>>,
}

struct Held {
    keys: Arc<KeySet>,
    fetched_at: DateTime<Utc>,
    fresh_for: Duration,
}

impl State {
    /// The keys that may still be used.
    pub(super) fn keys(&self, now: DateTime<Utc>) -> Option<&Arc<KeySet>> {
        let held = self.held.as_ref()?;
        (elapsed(held.fetched_at, now) < Some(GOOD_FOR)).then_some(&held.keys)
    }

    /// Whether there are no keys that are good without asking again.
    pub(super) fn is_stale(&self, now: DateTime<Utc>) -> bool {
        // A clock that was set back makes them stale, too.
        self.held.as_ref().is_none_or(|held| {
            elapsed(held.fetched_at, now).is_none_or(|age| age >= held.fresh_for)
        })
    }

    pub(super) fn trouble(&self) -> Option<Arc<Trouble>> {
        self.trouble.clone()
    }

    /// The fetch that is under way.
    pub(super) fn flight(&self) -> Option<Landing> {
        let flight = self.flight.as_ref()?;
        flight.has_changed().is_ok().then(|| flight.clone())
    }

    /// Whether enough time has passed for another fetch.
    pub(super) fn may_fetch(&self, now: DateTime<Utc>) -> bool {
        let pause = if self.keys(now).is_some() {
            PAUSE
        } else {
            PAUSE_WITHOUT_KEYS
        };
        self.last_fetch
            .and_then(|last| elapsed(last, now))
            .is_none_or(|since| since >= pause)
    }

    /// Takes note of a fetch that begins; the sender is to live as long as it.
    pub(super) fn begin(&mut self, now: DateTime<Utc>) -> (watch::Sender<()>, Landing) {
        let (sender, landing) = watch::channel(());
        self.flight = Some(landing.clone());
        self.last_fetch = Some(now);
        (sender, landing)
    }

    /// Takes note of a fetch that has ended.
    pub(super) fn end(
        &mut self,
        begun_at: DateTime<Utc>,
        now: DateTime<Utc>,
        outcome: Result<Fetched, Arc<Trouble>>,
    ) {
        self.flight = None;
        self.last_fetch = Some(now);
        match outcome {
            Ok(Fetched { keys, fresh_for }) => {
                self.held = Some(Held {
                    keys: Arc::new(keys),
                    fetched_at: begun_at,
                    fresh_for,
                });
                self.trouble = None;
            }
            Err(trouble) => self.trouble = Some(trouble),
        }
    }
}

/// `None` if the clock was set back in between.
fn elapsed(since: DateTime<Utc>, now: DateTime<Utc>) -> Option<Duration> {
    (now - since).to_std().ok()
}
