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

/// Why a run is to end before it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Its owner no longer wants it.
    Cancel,
    /// It has taken longer than these seconds.
    TimeOut { seconds: u32 },
}

impl Wish {
    /// How a run ends that this wish came true for.
    pub(super) fn ending(self, stored: Vec<RunOutput>) -> Ending {
        match self {
            Self::Cancel => Ending::Cancelled(stored),
            Self::TimeOut { seconds } => {
                Ending::Failed(RunFailure::timed_out(u64::from(seconds)), stored)
            }
        }
    }
}

/// Whether a run is to end before it is done.
pub(super) type Wishes = tokio::sync::watch::Receiver<Option<Wish>>;

/// Makes a wish, unless there is one: the first decides how the run ends.
pub(super) fn make_wish(wishes: &tokio::sync::watch::Sender<Option<Wish>>, wish: Wish) {
    wishes.send_if_modified(|known| {
        let is_first = known.is_none();
        known.get_or_insert(wish);
        is_first
    });
}

/// Waits for a wish; for ever where none can come any more.
pub(super) async fn wished(wishes: &mut Wishes) -> Wish {
    loop {
        let wish = *wishes.borrow_and_update();
        if let Some(wish) = wish {
            return wish;
        }
        if wishes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
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
