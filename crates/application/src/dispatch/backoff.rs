use std::time::Duration;

use atelier_domain::ports::IdGen;

/// Pauses that double from the first to the longest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Backoff {
    first: Duration,
    longest: Duration,
    next: Duration,
}

impl Backoff {
    pub(super) const fn new(first: Duration, longest: Duration) -> Self {
        Self {
            first,
            longest,
            next: first,
        }
    }

    /// How long to wait now.
    pub(super) fn next(&mut self) -> Duration {
        let pause = self.next;
        self.next = (pause * 2).min(self.longest);
        pause
    }

    pub(super) fn reset(&mut self) {
        self.next = self.first;
    }
}

/// Between three and five quarters of `pause`, so that many workers do not all
/// come back at the same moment.
pub(super) fn spread(ids: &dyn IdGen, pause: Duration) -> Duration {
    let [.., high, low] = ids.new_id().into_bytes();
    let chance = u32::from(u16::from_be_bytes([high, low]));
    pause * 3 / 4 + pause / 2 * chance / u32::from(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3));

        let pauses = [backoff.next(), backoff.next(), backoff.next()].map(|pause| pause.as_secs());

        assert_eq!(pauses, [1, 2, 3]);
    }
}
