//! The end of a process.
//!
//! - `ATELIER_SHUTDOWN_SECONDS`: how long a process that is told to stop may take. Too little, and
//!   requests that go on for long are cut; too much, and an update takes longer. Whatever kills
//!   what does not end (`terminationGracePeriodSeconds`, `TimeoutStopSec`, `stop_grace_period`)
//!   must wait a few seconds longer.

use std::time::Duration;

use super::Mistakes;

const SHUTDOWN: &str = "ATELIER_SHUTDOWN_SECONDS";

const DEFAULT_SHUTDOWN_SECONDS: u64 = 10;

/// How the end is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ShutdownArguments {
    /// How many seconds a process that is told to stop may take.
    ///
    /// In the first fifth the API goes on as ever, so that balancers notice. Default: 10.
    #[arg(long, env = SHUTDOWN, value_name = "SECONDS")]
    pub shutdown_seconds: Option<String>,
}

/// How much time there is for each part of the end, counted from the signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ShutdownConfig {
    total: Duration,
}

impl ShutdownConfig {
    /// So much time in all.
    pub const fn new(total: Duration) -> Self {
        Self { total }
    }

    /// All of it.
    pub fn total(self) -> Duration {
        self.total
    }

    /// How long the API goes on as ever: balancers ask whether it is ready from time to time.
    pub fn notice(self) -> Duration {
        self.total / 5
    }

    /// When bodies that are still coming, and outputs that are still being stored, are given up:
    /// what they leave has to be put in order.
    pub fn giving_up(self) -> Duration {
        self.total * 3 / 5
    }

    /// When whatever still goes on is dropped; the rest is for logs and traces.
    pub fn dropping(self) -> Duration {
        self.total * 19 / 20
    }
}

impl ShutdownArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<ShutdownConfig> {
        mistakes
            .seconds(
                SHUTDOWN,
                self.shutdown_seconds,
                &(1..=3_600),
                DEFAULT_SHUTDOWN_SECONDS,
            )
            .map(ShutdownConfig::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(seconds: Option<&str>) -> Result<ShutdownConfig, String> {
        let arguments = ShutdownArguments {
            shutdown_seconds: seconds.map(str::to_owned),
        };
        let mut mistakes = Mistakes::default();
        let config = arguments.check(&mut mistakes);
        mistakes.check(config).map_err(|all| all.to_string())
    }

    #[test]
    fn everything_ends_within_the_time_there_is() {
        let config = check(None).expect("nothing is wrong");

        assert_eq!(config.total(), Duration::from_secs(10));
        assert_eq!(config.notice(), Duration::from_secs(2));
        assert_eq!(config.giving_up(), Duration::from_secs(6));
        assert_eq!(config.dropping(), Duration::from_millis(9_500));
    }

    #[test]
    fn a_process_has_at_least_a_second_and_at_most_an_hour() {
        assert!(check(Some("1")).is_ok() && check(Some("3600")).is_ok());
        for seconds in ["0", "3601", "soon"] {
            let told = check(Some(seconds)).expect_err("it is out of range");
            let expected = format!(
                "ATELIER_SHUTDOWN_SECONDS: must be a number from 1 to 3600, is `{seconds}`"
            );
            assert!(told.contains(&expected), "{told}");
        }
    }
}
