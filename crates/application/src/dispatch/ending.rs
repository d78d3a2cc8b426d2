use atelier_domain::output::RunOutput;
use atelier_domain::ports::ReleaseReason;
use atelier_domain::run::RunFailure;
use thiserror::Error;

/// How a worker parts with a run.
#[derive(Debug, PartialEq)]
pub(super) enum Ending {
    Completed(Vec<RunOutput>),
    Failed(RunFailure, Vec<RunOutput>),
    Cancelled(Vec<RunOutput>),
    Released(ReleaseReason),
}

impl Ending {
    pub(super) fn failed(failure: RunFailure) -> Self {
        Self::Failed(failure, Vec::new())
    }
}

/// Why a worker must stop touching a run without a word.
#[derive(Debug, Error)]
pub(super) enum Gone {
    #[error("the claim on the run was lost")]
    ClaimLost,
    #[error("the claim on the run could not be renewed in time")]
    LeaseOver,
    #[error("the run queue refused a write")]
    Defect(#[source] atelier_domain::ports::RepoError),
}

/// Why an attempt goes no further.
#[derive(Debug)]
pub(super) enum Stop {
    Ended(Ending),
    Gone(Gone),
}

impl From<Ending> for Stop {
    fn from(ending: Ending) -> Self {
        Self::Ended(ending)
    }
}

impl From<Gone> for Stop {
    fn from(gone: Gone) -> Self {
        Self::Gone(gone)
    }
}
