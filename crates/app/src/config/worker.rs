//! The worker.
//!
//! - `ATELIER_LEASE_SECONDS`: how long a run waits for a worker that gives no sign of life before
//!   another one takes it.

use std::time::Duration;

use super::Mistakes;

const LEASE: &str = "ATELIER_LEASE_SECONDS";

/// How the worker is told.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct WorkerArguments {
    /// After how many seconds without a sign of life a worker's runs are given to another.
    #[arg(long, env = LEASE, value_name = "SECONDS", default_value_t = 30)]
    pub lease_seconds: u64,
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
        if !(3..=3600).contains(&self.lease_seconds) {
            mistakes.add(LEASE, "must be between 3 and 3600");
            return None;
        }
        Some(WorkerConfig {
            lease: Duration::from_secs(self.lease_seconds),
        })
    }
}
