use std::sync::Mutex;
use std::time::Duration;

use atelier_domain::ports::Clock;
use chrono::{DateTime, SubsecRound as _, TimeDelta, Utc};

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    /// Stands at `now`, cut to whole microseconds.
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Mutex::new(now.trunc_subsecs(6)))
    }

    /// Moves to `now`, cut to whole microseconds.
    pub fn set(&self, now: DateTime<Utc>) {
        *self.0.lock().unwrap() = now.trunc_subsecs(6);
    }

    /// Moves forward.
    pub fn advance(&self, by: Duration) {
        let by = TimeDelta::from_std(by).expect("a test does not wait for aeons");
        let mut now = self.0.lock().unwrap();
        *now = (*now + by).trunc_subsecs(6);
    }
}

/// Stands at the first of January 2026, 00:00 UTC.
impl Default for ManualClock {
    fn default() -> Self {
        Self::at(crate::build::EPOCH)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap()
    }
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct WallClock;

impl Clock for WallClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the Clock port of tests that wait for real time"
    )]
    fn now(&self) -> DateTime<Utc> {
        Utc::now().trunc_subsecs(6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manual_clock_moves_only_when_told_and_keeps_microseconds() {
        let clock = ManualClock::default();
        let before = clock.now();
        assert_eq!(clock.now(), before);

        clock.advance(Duration::from_nanos(1_999));

        assert_eq!(clock.now(), before + TimeDelta::microseconds(1));
    }
}
