use std::time::Duration;

use atelier_domain::validation::Violation;

/// How much anybody may ask of the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimits {
    /// How long a run may take, once it is begun, where nobody says.
    pub default_timeout: Duration,
    /// The longest time that may be asked for.
    pub max_timeout: Duration,
    /// How many runs of one person may wait at once.
    pub max_pending: u32,
}

impl Default for RunLimits {
    fn default() -> Self {
        Self {
            default_timeout: Duration::from_hours(1),
            max_timeout: Duration::from_hours(24),
            max_pending: 2_000,
        }
    }
}

impl RunLimits {
    /// The timeout of a run, in whole seconds: the one that was asked for, or
    /// else the default.
    pub(super) fn timeout_s(&self, asked: Option<u32>) -> Result<u32, Violation> {
        let max = seconds(self.max_timeout);
        match asked {
            None => Ok(seconds(self.default_timeout).min(max)),
            Some(asked) if (1..=max).contains(&asked) => Ok(asked),
            Some(_) => Err(Violation::new(
                "/timeout_s",
                format!("must be from 1 to {max} seconds"),
            )),
        }
    }

    /// The timeout of a run that had `earlier` before, and is asked for again.
    pub(super) fn timeout_again_s(
        &self,
        asked: Option<u32>,
        earlier: u32,
    ) -> Result<u32, Violation> {
        match asked {
            None => Ok(earlier.min(seconds(self.max_timeout))),
            asked => self.timeout_s(asked),
        }
    }
}

fn seconds(time: Duration) -> u32 {
    u32::try_from(time.as_secs()).unwrap_or(u32::MAX)
}
