//! The worker.
//!
//! - `ATELIER_LEASE_SECONDS`: how long a run waits for a worker that gives no sign of life before
//!   another one takes it.

use std::time::Duration;

use super::{Mistakes, or_variables};

const LEASE: &str = "ATELIER_LEASE_SECONDS";

const DEFAULT_LEASE_SECONDS: u64 = 30;

/// How the worker is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct WorkerArguments {
    /// After how many seconds without a sign of life a worker's runs are given to another.
    ///
    /// Default: 30.
    #[arg(long, env = LEASE, value_name = "SECONDS")]
    pub lease_seconds: Option<String>,
}

/// How the worker works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// How long a claim holds without a heartbeat.
    pub lease: Duration,
}

impl WorkerArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<WorkerConfig> {
        let seconds = match or_variables(self.lease_seconds, &[]) {
            None => DEFAULT_LEASE_SECONDS,
            Some(text) => mistakes.parse(LEASE, &text, "a number from 3 to 3600", |seconds| {
                (3..=3_600).contains(seconds)
            })?,
        };
        Some(WorkerConfig {
            lease: Duration::from_secs(seconds),
        })
    }
}
