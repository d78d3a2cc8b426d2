//! What people may ask of runs.
//!
//! - `ATELIER_RUN_TIMEOUT_SECONDS`: how long a run may take if nobody says.
//! - `ATELIER_MAX_RUN_TIMEOUT_SECONDS`: the longest that anybody may say.
//! - `ATELIER_MAX_PENDING_RUNS`: how many runs of one person may wait at once. Too few, and a
//!   large batch is refused; too many, and one person fills the queue.

use std::time::Duration;

use super::{Mistakes, or_variables};

const TIMEOUT: &str = "ATELIER_RUN_TIMEOUT_SECONDS";
const MAX_TIMEOUT: &str = "ATELIER_MAX_RUN_TIMEOUT_SECONDS";
const MAX_PENDING: &str = "ATELIER_MAX_PENDING_RUNS";

const DEFAULT_TIMEOUT_SECONDS: u64 = 3_600;
const DEFAULT_MAX_TIMEOUT_SECONDS: u64 = 86_400;
const DEFAULT_MAX_PENDING: u32 = 2_000;
/// Thirty days: what takes longer was forgotten.
const LONGEST_SECONDS: u64 = 2_592_000;

/// How the limits are told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct RunLimitsArguments {
    /// How many seconds a run may take if nobody says.
    ///
    /// Default: 3600, or the most that anybody may say if that is less.
    #[arg(long, env = TIMEOUT, value_name = "SECONDS")]
    pub run_timeout_seconds: Option<String>,
    /// The most seconds that anybody may say a run may take.
    ///
    /// Default: 86400, which is a day.
    #[arg(long, env = MAX_TIMEOUT, value_name = "SECONDS")]
    pub max_run_timeout_seconds: Option<String>,
    /// How many runs of one person may wait at once.
    ///
    /// Default: 2000.
    #[arg(long, env = MAX_PENDING, value_name = "COUNT")]
    pub max_pending_runs: Option<String>,
}

/// What people may ask of runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RunLimitsConfig {
    /// How long a run may take if nobody says; at most `max_timeout`.
    pub default_timeout: Duration,
    /// The longest that anybody may say.
    pub max_timeout: Duration,
    /// How many runs of one person may wait at once.
    pub max_pending: u32,
}

impl RunLimitsArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<RunLimitsConfig> {
        let given = or_variables(self.run_timeout_seconds, &[]);
        let is_given = given.is_some();
        let range = 1..=LONGEST_SECONDS;
        let default_timeout = mistakes.seconds(TIMEOUT, given, &range, DEFAULT_TIMEOUT_SECONDS);
        let max_timeout = mistakes.seconds(
            MAX_TIMEOUT,
            self.max_run_timeout_seconds,
            &range,
            DEFAULT_MAX_TIMEOUT_SECONDS,
        );
        let max_pending = match or_variables(self.max_pending_runs, &[]) {
            None => Some(DEFAULT_MAX_PENDING),
            Some(text) => {
                mistakes.parse(MAX_PENDING, &text, "a number from 1 to 1000000", |count| {
                    (1..=1_000_000).contains(count)
                })
            }
        };
        let (default_timeout, max_timeout) = default_timeout.zip(max_timeout)?;
        if is_given && default_timeout > max_timeout {
            let most = max_timeout.as_secs();
            mistakes.add(
                TIMEOUT,
                format!("must be at most {MAX_TIMEOUT}, which is {most}"),
            );
            return None;
        }
        Some(RunLimitsConfig {
            default_timeout: default_timeout.min(max_timeout),
            max_timeout,
            max_pending: max_pending?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(
        timeout: Option<&str>,
        max_timeout: Option<&str>,
        max_pending: Option<&str>,
    ) -> Result<RunLimitsConfig, String> {
        let arguments = RunLimitsArguments {
            run_timeout_seconds: timeout.map(str::to_owned),
            max_run_timeout_seconds: max_timeout.map(str::to_owned),
            max_pending_runs: max_pending.map(str::to_owned),
        };
        let mut mistakes = Mistakes::default();
        let config = arguments.check(&mut mistakes);
        mistakes.check(config).map_err(|all| all.to_string())
    }

    fn limits(timeout: u64, max_timeout: u64, max_pending: u32) -> RunLimitsConfig {
        RunLimitsConfig {
            default_timeout: Duration::from_secs(timeout),
            max_timeout: Duration::from_secs(max_timeout),
            max_pending,
        }
    }

    #[test]
    fn what_is_not_set_or_empty_has_a_default() {
        assert_eq!(
            check(None, Some(""), None),
            Ok(limits(3_600, 86_400, 2_000))
        );
    }

    #[test]
    fn what_is_set_is_taken_to_its_bounds() {
        let least = check(Some("1"), Some("1"), Some("1"));
        let most = check(Some("2592000"), Some("2592000"), Some("1000000"));

        assert_eq!(least, Ok(limits(1, 1, 1)));
        assert_eq!(most, Ok(limits(2_592_000, 2_592_000, 1_000_000)));
    }

    #[test]
    fn a_default_that_nobody_set_follows_the_most() {
        assert_eq!(check(None, Some("60"), None), Ok(limits(60, 60, 2_000)));
    }

    #[test]
    fn a_default_over_the_most_is_refused() {
        for (timeout, most) in [("61", Some("60")), ("86401", None)] {
            let told = check(Some(timeout), most, None).expect_err("it is more");

            let expected =
                "ATELIER_RUN_TIMEOUT_SECONDS: must be at most ATELIER_MAX_RUN_TIMEOUT_SECONDS";
            assert!(told.contains(expected), "{told}");
        }
    }

    #[test]
    fn every_mistake_is_told() {
        for wrong in ["0", "-1", "1.5", "2592001", "long"] {
            let told =
                check(Some(wrong), Some(wrong), Some("1000001")).expect_err("all of it is wrong");

            for variable in [TIMEOUT, MAX_TIMEOUT, MAX_PENDING] {
                assert!(
                    told.contains(&format!("\n  {variable}: must be a number from 1 to ")),
                    "{told}"
                );
            }
        }
    }
}
