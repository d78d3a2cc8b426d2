use std::time::Duration;

use crate::run::{RunPhase, RunStatus};

/// Something that a worker measured.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Measurement {
    /// A run left a phase.
    PhaseEnded {
        /// On which backend.
        backend: String,
        /// Which phase.
        phase: RunPhase,
        /// How long it took.
        took: Duration,
    },
    /// A run is over.
    RunEnded {
        /// On which backend.
        backend: String,
        /// How.
        status: RunStatus,
        /// The failure's code, where it failed.
        code: Option<String>,
        /// How long its last attempt took.
        took: Duration,
    },
    /// A run went back into the queue.
    RunReleased {
        /// From which backend.
        backend: String,
    },
    /// A LoRA was copied to a backend.
    LoraCopied {
        /// To which backend.
        backend: String,
        /// Its size, in bytes.
        bytes: u64,
        /// How long it took.
        took: Duration,
    },
    /// A backend answered, or did not.
    BackendSeen {
        /// Which backend.
        backend: String,
        /// Whether it answered.
        answers: bool,
    },
}

/// Takes measurements in. Never fails and never waits: who measures has other
/// things to do.
#[cfg_attr(feature = "mock", mockall::automock)]
pub trait Telemetry: Send + Sync {
    /// Takes a measurement in.
    fn record(&self, measurement: Measurement);
}
