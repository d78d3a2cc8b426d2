//! The worker.
//!
//! - `ATELIER_LEASE_SECONDS`: how long a run waits for a worker that gives no sign of life before
//!   another one takes it.
//! - `ATELIER_CLEANING_SECONDS`: how often files that nobody needs any more are cleaned away.
//! - `ATELIER_BACKEND_PATIENCE_SECONDS`: how long a backend that does not answer is waited for.
//!   Too little, and a restart of ComfyUI sends its runs elsewhere, to begin again; too much, and
//!   they wait for a machine that is gone.
//! - `ATELIER_AFFINITY_SECONDS`: how long a run may wait for the backend that suits it best. Too
//!   little, and models are loaded more often than need be; too much, and backends idle.
//! - `ATELIER_ORPHAN_AGE_SECONDS`: how old an object of ours in the store must be, that no row
//!   knows, before it is deleted. Less than the longest upload, and its bytes are lost.
//! - `ATELIER_MAX_RUNNING_RUNS`: how many runs of one person may be under way at once, on all
//!   backends together; all workers must agree on it. Without it, one person has every backend
//!   while nobody else wants one.

use std::time::Duration;

use super::{Mistakes, or_variables};

const LEASE: &str = "ATELIER_LEASE_SECONDS";
const CLEANING: &str = "ATELIER_CLEANING_SECONDS";
const PATIENCE: &str = "ATELIER_BACKEND_PATIENCE_SECONDS";
const AFFINITY: &str = "ATELIER_AFFINITY_SECONDS";
const MAX_RUNNING: &str = "ATELIER_MAX_RUNNING_RUNS";
const ORPHAN_AGE: &str = "ATELIER_ORPHAN_AGE_SECONDS";

const DEFAULT_LEASE_SECONDS: u64 = 30;
const DEFAULT_CLEANING_SECONDS: u64 = 60;
const DEFAULT_PATIENCE_SECONDS: u64 = 60;
const DEFAULT_AFFINITY_SECONDS: u64 = 2;
const DEFAULT_ORPHAN_AGE_SECONDS: u64 = 7 * 86_400;

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
    /// How many seconds a backend that does not answer is waited for before its runs move on.
    ///
    /// Default: 60.
    #[arg(long, env = PATIENCE, value_name = "SECONDS")]
    pub backend_patience_seconds: Option<String>,
    /// How many seconds a run may wait for the backend that suits it best.
    ///
    /// That is one that has its models loaded. Default: 2.
    #[arg(long, env = AFFINITY, value_name = "SECONDS")]
    pub affinity_seconds: Option<String>,
    /// How many runs of one person may be under way at once; as many as there is room for if not
    /// set.
    #[arg(long, env = MAX_RUNNING, value_name = "COUNT")]
    pub max_running_runs: Option<String>,
    /// How many seconds old an object in the store must be, that nothing knows of, to be deleted.
    ///
    /// Default: 604800, which is a week.
    #[arg(long, env = ORPHAN_AGE, value_name = "SECONDS")]
    pub orphan_age_seconds: Option<String>,
}

/// How the worker works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerConfig {
    /// How long a claim holds without a heartbeat.
    pub lease: Duration,
    /// How often files that nobody needs any more are cleaned away.
    pub cleaning: Duration,
    /// How long a backend that does not answer is waited for before its runs move on.
    pub patience: Duration,
    /// How long a run may wait for the backend that suits it best.
    pub affinity: Duration,
    /// How many runs of one person may be under way at once; `None` for as many as there is room
    /// for.
    pub max_running: Option<u32>,
    /// How old an object that nothing knows of must be to be deleted.
    pub orphan_age: Duration,
}

impl WorkerArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<WorkerConfig> {
        let lease = mistakes.seconds(
            LEASE,
            self.lease_seconds,
            &(3..=3_600),
            DEFAULT_LEASE_SECONDS,
        );
        let cleaning = mistakes.seconds(
            CLEANING,
            self.cleaning_seconds,
            &(1..=3_600),
            DEFAULT_CLEANING_SECONDS,
        );
        let patience = mistakes.seconds(
            PATIENCE,
            self.backend_patience_seconds,
            &(1..=3_600),
            DEFAULT_PATIENCE_SECONDS,
        );
        let affinity = mistakes.seconds(
            AFFINITY,
            self.affinity_seconds,
            &(0..=60),
            DEFAULT_AFFINITY_SECONDS,
        );
        let max_running = match or_variables(self.max_running_runs, &[]) {
            None => Some(None),
            Some(text) => mistakes
                .parse(MAX_RUNNING, &text, "a number from 1 to 1000000", |count| {
                    (1..=1_000_000).contains(count)
                })
                .map(Some),
        };
        let orphan_age = mistakes.seconds(
            ORPHAN_AGE,
            self.orphan_age_seconds,
            &(3_600..=31_536_000),
            DEFAULT_ORPHAN_AGE_SECONDS,
        );
        Some(WorkerConfig {
            lease: lease?,
            max_running: max_running?,
            cleaning: cleaning?,
            patience: patience?,
            affinity: affinity?,
            orphan_age: orphan_age?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(arguments: WorkerArguments) -> Result<WorkerConfig, String> {
        let mut mistakes = Mistakes::default();
        let config = arguments.check(&mut mistakes);
        mistakes.check(config).map_err(|all| all.to_string())
    }

    #[test]
    fn what_is_not_set_has_a_default() {
        let expected = WorkerConfig {
            lease: Duration::from_secs(30),
            cleaning: Duration::from_mins(1),
            patience: Duration::from_mins(1),
            affinity: Duration::from_secs(2),
            max_running: None,
            orphan_age: Duration::from_hours(7 * 24),
        };

        assert_eq!(check(WorkerArguments::default()), Ok(expected));
    }

    #[test]
    fn each_time_has_its_own_range() {
        let all = |least: [u64; 5]| {
            let [lease, cleaning, patience, affinity, orphan_age] =
                least.map(|seconds| Some(seconds.to_string()));
            check(WorkerArguments {
                lease_seconds: lease,
                cleaning_seconds: cleaning,
                backend_patience_seconds: patience,
                affinity_seconds: affinity,
                orphan_age_seconds: orphan_age,
                max_running_runs: None,
            })
        };

        assert!(all([3, 1, 1, 0, 3_600]).is_ok());
        assert!(all([3_600, 3_600, 3_600, 60, 31_536_000]).is_ok());
        let told = all([2, 0, 0, 61, 3_599]).expect_err("all of it is wrong");
        for expected in [
            "ATELIER_LEASE_SECONDS: must be a number from 3 to 3600, is `2`",
            "ATELIER_CLEANING_SECONDS: must be a number from 1 to 3600, is `0`",
            "ATELIER_BACKEND_PATIENCE_SECONDS: must be a number from 1 to 3600, is `0`",
            "ATELIER_AFFINITY_SECONDS: must be a number from 0 to 60, is `61`",
            "ATELIER_ORPHAN_AGE_SECONDS: must be a number from 3600 to 31536000, is `3599`",
        ] {
            assert!(told.contains(&format!("\n  {expected}")), "{told}");
        }
    }
}
