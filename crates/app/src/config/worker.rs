//! The worker.
//!
//! - `ATELIER_LEASE_SECONDS`: how long a run waits for a worker that gives no sign of life before
//!   another one takes it.
//! - `ATELIER_CLEANING_SECONDS`: how often files that nobody needs any more are cleaned away.

use std::time::Duration;

use super::{Mistakes, or_variables};

const LEASE: &str = "ATELIER_LEASE_SECONDS";

const CLEANING: &str = "ATELIER_CLEANING_SECONDS";

const DEFAULT_LEASE_SECONDS: u64 = 30;
const DEFAULT_CLEANING_SECONDS: u64 = 60;

/// How the worker is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WorkerArguments {
    /// After how many seconds without a sign of life a worker's runs are given to another.
    ///
    /// Default: 30.
    #[arg(long, env = LEASE, value_name = "SECONDS")]
    pub lease_seconds: Option<String>,
    /// How often, in seconds, files that nobody needs any more are cleaned away.
    ///
    /// Default: 60.
    #[arg(long, env = CLEANING, value_name = "SECONDS")]
    pub cleaning_seconds: Option<String>,
}

/// How the worker works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// How long a claim holds without a heartbeat.
    pub lease: Duration,
    /// How often files that nobody needs any more are cleaned away.
    pub cleaning: Duration,
}

impl WorkerArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<WorkerConfig> {
        let lease = seconds(
            LEASE,
            self.lease_seconds,
            3,
            DEFAULT_LEASE_SECONDS,
            mistakes,
        );
        let cleaning = seconds(
            CLEANING,
            self.cleaning_seconds,
            1,
            DEFAULT_CLEANING_SECONDS,
            mistakes,
        );
        Some(WorkerConfig {
            lease: lease?,
            cleaning: cleaning?,
        })
    }
}

/// A time of at least `least` seconds and at most an hour.
fn seconds(
    variable: &'static str,
    given: Option<String>,
    least: u64,
    default: u64,
    mistakes: &mut Mistakes,
) -> Option<Duration> {
    let Some(text) = or_variables(given, &[]) else {
        return Some(Duration::from_secs(default));
    };
    let range = least..=3_600;
    let expected = format!("a number from {least} to 3600");
    mistakes
        .parse(variable, &text, &expected, |seconds| {
            range.contains(seconds)
        })
        .map(Duration::from_secs)
}
