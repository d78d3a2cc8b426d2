use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::time::{Duration, Instant};

/// Attempts at one request, the first one included.
const ATTEMPTS: u32 = 3;

/// How patient to be: see [`DriveOptions`](crate::DriveOptions).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    pub(crate) pause: Duration,
    pub(crate) within: Duration,
}

/// The waiting between the attempts at one request.
#[derive(Debug)]
pub(crate) struct Backoff {
    patience: Patience,
    began: Instant,
    failed: u32,
}

impl Backoff {
    pub(crate) fn new(patience: Patience) -> Self {
        Self {
            patience,
            began: Instant::now(),
            failed: 0,
        }
    }

    /// Counts a failed attempt: how long to wait before the next one, or `None`
    /// to give up. Whoever asked for a longer pause gets it.
    pub(crate) fn next(&mut self, wanted: Option<Duration>) -> Option<Duration> {
        let doubled = self
            .patience
            .pause
            .saturating_mul(2_u32.pow(self.failed.min(ATTEMPTS)));
        let pause = doubled.saturating_add(chance(self.patience.pause));
        let pause = wanted.map_or(pause, |wanted| pause.max(wanted));
        self.failed += 1;
        let fits = self.began.elapsed().saturating_add(pause) <= self.patience.within;
        (self.failed < ATTEMPTS && fits).then_some(pause)
    }
}

/// Something between nothing and `most`, so that those who were turned away
/// together do not come back together.
fn chance(most: Duration) -> Duration {
    let random = RandomState::new().build_hasher().finish();
    let most = u64::try_from(most.as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(random % most.saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience = Patience {
        pause: Duration::from_secs(1),
        within: Duration::from_secs(8),
    };

    #[test]
    fn pauses_double_and_end() {
        let mut backoff = Backoff::new(PATIENCE);

        let first = backoff.next(None).unwrap();
        let second = backoff.next(None).unwrap();

        assert!((1_000..=2_000).contains(&first.as_millis()), "{first:?}");
        assert!((2_000..=3_000).contains(&second.as_millis()), "{second:?}");
        assert_eq!(backoff.next(None), None);
    }

    #[test]
    fn a_wanted_pause_is_kept_or_makes_it_give_up() {
        let mut backoff = Backoff::new(PATIENCE);

        let kept = backoff.next(Some(Duration::from_secs(5)));
        assert_eq!(kept, Some(Duration::from_secs(5)));
        assert_eq!(backoff.next(Some(Duration::from_mins(1))), None);
    }
}
