use thiserror::Error;

use super::RunLoss;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Waits for a worker.
    Pending,
    /// A worker has it; see [`RunPhase`].
    Running,
    /// Ended well: all outputs are stored.
    Completed,
    /// Ended badly: [`Run::error`](super::Run::error) says why.
    Failed,
    /// Ended because its owner said so.
    Cancelled,
}

impl RunStatus {
    /// Every status, in the order of a run's life.
    pub const ALL: [Self; 5] = [
        Self::Pending,
        Self::Running,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
    ];

    /// The word that the API and the database use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }

    /// Whether nothing happens any more.
    pub const fn is_final(self) -> bool {
        match self {
            Self::Pending | Self::Running => false,
            Self::Completed | Self::Failed | Self::Cancelled => true,
        }
    }

    /// Where a transition leads from here.
    ///
    /// # Errors
    /// [`TransitionRefused`] where the transition is not one of this state,
    /// such as cancelling what is over.
    pub const fn after(self, transition: RunTransition) -> Result<Self, TransitionRefused> {
        match (self, transition) {
            (Self::Pending, RunTransition::Claim) => Ok(Self::Running),
            (Self::Pending | Self::Running, RunTransition::Cancel) => Ok(Self::Cancelled),
            (Self::Running, RunTransition::Complete) => Ok(Self::Completed),
            (Self::Running, RunTransition::Fail)
            | (Self::Pending | Self::Running, RunTransition::TimeOut) => Ok(Self::Failed),
            (Self::Running, RunTransition::HandOver) => Ok(Self::Pending),
            (Self::Running, RunTransition::Lose { loss, count }) => {
                if count < loss.budget() {
                    Ok(Self::Pending)
                } else {
                    Ok(Self::Failed)
                }
            }
            (from, transition) => Err(TransitionRefused { from, transition }),
        }
    }
}

/// What can happen to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunTransition {
    /// A worker takes it; this begins an attempt.
    Claim,
    /// All its outputs are stored.
    Complete,
    /// It cannot succeed.
    Fail,
    /// Its owner no longer wants it.
    Cancel,
    /// Its worker stops in good order and leaves it to another; this costs no
    /// attempt.
    HandOver,
    /// It has taken longer than it may since it was first begun.
    TimeOut,
    /// Something that it needs was lost, for the `count`th time, from 1.
    Lose {
        /// What.
        loss: RunLoss,
        /// How often by now, this time included.
        count: u32,
    },
}

/// A transition that a run's status does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a run that is {} has no transition {transition:?}", from.as_str())]
pub struct TransitionRefused {
    /// Where the run stands.
    pub from: RunStatus,
    /// What was asked for.
    pub transition: RunTransition,
}

/// What a worker is doing with a [`RunStatus::Running`] run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RunPhase {
    /// Puts the LoRAs that it needs on the backend's disk.
    SyncingLoras,
    /// Hands it to the backend.
    Submitting,
    /// Waits in the backend's own queue.
    Queued,
    /// The backend works on it.
    Executing,
    /// Brings its outputs home.
    StoringOutputs,
}

impl RunPhase {
    /// Every phase, in order.
    pub const ALL: [Self; 5] = [
        Self::SyncingLoras,
        Self::Submitting,
        Self::Queued,
        Self::Executing,
        Self::StoringOutputs,
    ];

    /// The word that the API and the database use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::SyncingLoras => "syncing_loras",
            Self::Submitting => "submitting",
            Self::Queued => "queued",
            Self::Executing => "executing",
            Self::StoringOutputs => "storing_outputs",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|phase| phase.as_str() == word)
    }
}
