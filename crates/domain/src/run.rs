//! Runs: one execution of a workflow, and the states that it goes through.
//!
//! ```text
//!            claim                    complete
//! pending ----------> running ----------------------> completed
//!    ^  \                |  \
//!    |   \               |   \---- fail -------------> failed
//!    |    \              |    \--- cancel -----------> cancelled
//!    |     \--- cancel --|------------------------------^
//!    \-- release --------/   (attempt < MAX_ATTEMPTS, else failed)
//! ```
//!
//! These transitions live here and nowhere else; the database refuses the
//! same words that this module does not know.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};
use thiserror::Error;

use crate::graph::GraphJson;
use crate::ids::{LoraId, RunId, UserId, WorkflowId};
use crate::output::RunOutput;
use crate::page::Cursor;

/// How often a run is begun before it is given up: losing a worker or a
/// backend costs one attempt each.
pub const MAX_ATTEMPTS: u32 = 3;

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunStatus {
    /// Waits for a worker.
    Pending,
    /// A worker has it; see [`RunPhase`].
    Running,
    /// Ended well: all outputs are stored.
    Completed,
    /// Ended badly: [`Run::error`] says why.
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
            (Self::Running, RunTransition::Fail) => Ok(Self::Failed),
            (Self::Running, RunTransition::HandOver) => Ok(Self::Pending),
            (Self::Running, RunTransition::Release { attempt }) => {
                if attempt < MAX_ATTEMPTS {
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
    /// Its worker or its backend was lost in attempt number `attempt`, from 1.
    Release {
        /// The attempt that was lost.
        attempt: u32,
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

/// How far a run is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct RunProgress {
    /// The whole, 0..=1; never falls within an attempt.
    pub value: f64,
    /// How many nodes are done, those that the backend had cached included.
    pub nodes_done: u32,
    /// How many nodes the graph has.
    pub nodes_total: u32,
    /// The node that the backend works on.
    pub current_node: Option<String>,
    /// Steps done within that node.
    pub step: Option<u32>,
    /// Steps that the node has.
    pub steps: Option<u32>,
}

/// Why a run failed, in words for its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunFailure {
    /// What sort of failure.
    pub code: RunFailureCode,
    /// What happened and what to do, in our words: never a backend's own text,
    /// which holds other people's file names and server paths
    /// (`reference/comfyui/PROTOCOL.md` section 3).
    pub message: String,
    /// The node at fault, where one is.
    pub node_id: Option<String>,
    /// Its class.
    pub node_type: Option<String>,
}

impl RunFailure {
    /// A failure that is no node's fault.
    pub fn new(code: RunFailureCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            node_id: None,
            node_type: None,
        }
    }

    /// Names the node at fault.
    #[must_use]
    pub fn at_node(mut self, node_id: Option<String>, node_type: Option<String>) -> Self {
        self.node_id = node_id;
        self.node_type = node_type;
        self
    }
}

macro_rules! failure_codes {
    ($($(#[$documentation:meta])* $name:ident = $word:literal,)*) => {
        /// What sort of failure ended a run. The words are part of the API.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum RunFailureCode {
            $($(#[$documentation])* $name,)*
        }

        impl RunFailureCode {
            /// Every code.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The word that the API and the database use.
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }

            /// Reads the word.
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

failure_codes! {
    /// Every attempt lost its worker or its backend.
    AttemptsExhausted = "attempts_exhausted",
    /// The backend refuses our credentials.
    BackendUnauthorized = "backend_unauthorized",
    /// A node failed while the backend worked on it.
    ExecutionFailed = "execution_failed",
    /// Somebody else stopped it on the backend.
    Interrupted = "interrupted",
    /// A LoRA that the run needs is gone.
    LoraMissing = "lora_missing",
    /// A LoRA could not be put on the backend's disk.
    LoraSyncFailed = "lora_sync_failed",
    /// An output could not be brought home.
    OutputLost = "output_lost",
    /// The backend made nothing that could be stored.
    NoOutputs = "no_outputs",
    /// The backend refused the graph.
    PromptRejected = "prompt_rejected",
}

/// One execution of a workflow, as its owner sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What it executes; `None` once that workflow is deleted.
    pub workflow_id: Option<WorkflowId>,
    /// Whose it is: the person who asked for it.
    pub user_id: UserId,
    /// Where it stands.
    pub status: RunStatus,
    /// What its worker is doing; only while it is running.
    pub phase: Option<RunPhase>,
    /// How many runs will be begun before it, where that is known.
    pub queue_position: Option<u64>,
    /// How far it is.
    pub progress: RunProgress,
    /// The values that were put into the workflow.
    pub input_params: Map<String, Value>,
    /// What the backend calls it; the run's own id unless the backend is too
    /// old to take one.
    pub comfyui_prompt_id: Option<String>,
    /// The name of the backend that has it.
    pub backend: Option<String>,
    /// What it left behind, in the order of their indexes.
    pub outputs: Vec<RunOutput>,
    /// Why it failed.
    pub error: Option<RunFailure>,
    /// Which attempt this is; 0 before the first.
    pub attempt: u32,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
}

impl Run {
    /// Where the run stands in a list.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.as_uuid(),
        }
    }
}

/// What is needed to put a new run into the queue; its owner is the actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// Its id, from the `IdGen` port.
    pub id: RunId,
    /// What it executes.
    pub workflow_id: WorkflowId,
    /// The values that were put into the workflow.
    pub input_params: Map<String, Value>,
    /// The graph with those values, its LoRA inputs rewritten and its outputs
    /// sent to this run's own folder.
    pub graph: GraphJson,
    /// How many nodes that graph has.
    pub nodes_total: u32,
    /// The LoRAs that it needs on the backend's disk.
    pub lora_ids: Vec<LoraId>,
    /// When it is asked for, from the `Clock` port.
    pub created_at: DateTime<Utc>,
}

/// Which runs a list holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only those that stand here.
    pub status: Option<RunStatus>,
    /// Only those of this workflow.
    pub workflow_id: Option<WorkflowId>,
}

impl RunFilter {
    /// Describes the list, for [`Cursor::encode`].
    pub fn list_name(&self) -> String {
        format!(
            "runs?status={}&workflow_id={}",
            self.status.map_or("", RunStatus::as_str),
            self.workflow_id
                .map_or_else(String::new, |id| id.to_string())
        )
    }
}

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunEvent {
    /// Its place in the run's history, from 1, without gaps.
    pub sequence: i64,
    /// What sort of thing happened.
    pub kind: RunEventKind,
    /// The particulars, an object whose members depend on the kind.
    pub data: Value,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// What sort of thing happened to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunEventKind {
    /// Its status changed: `{"status": "...", "attempt": n}`.
    Status,
    /// Its phase changed: `{"phase": "..."}`.
    Phase,
    /// It went on: the members of [`RunProgress`].
    Progress,
    /// An output was stored: `{"index": n, "filename": "..."}`.
    Output,
    /// It failed: the members of [`RunFailure`].
    Error,
}

impl RunEventKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Status,
        Self::Phase,
        Self::Progress,
        Self::Output,
        Self::Error,
    ];

    /// The word that the API and the database use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Phase => "phase",
            Self::Progress => "progress",
            Self::Output => "output",
            Self::Error => "error",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_attempt_ends_in_failure() {
        let lost = |attempt| RunStatus::Running.after(RunTransition::Release { attempt });

        assert_eq!(lost(MAX_ATTEMPTS - 1), Ok(RunStatus::Pending));
        assert_eq!(lost(MAX_ATTEMPTS), Ok(RunStatus::Failed));
    }

    #[test]
    fn a_finished_run_cannot_be_cancelled() {
        assert!(RunStatus::Completed.after(RunTransition::Cancel).is_err());
    }

    #[test]
    fn every_word_is_read_back() {
        for status in RunStatus::ALL {
            assert_eq!(RunStatus::parse(status.as_str()), Some(status));
        }
        for phase in RunPhase::ALL {
            assert_eq!(RunPhase::parse(phase.as_str()), Some(phase));
        }
        for kind in RunEventKind::ALL {
            assert_eq!(RunEventKind::parse(kind.as_str()), Some(kind));
        }
        for code in RunFailureCode::ALL {
            assert_eq!(RunFailureCode::parse(code.as_str()), Some(*code));
        }
    }

    fn transitions() -> impl Strategy<Value = RunTransition> {
        prop_oneof![
            Just(RunTransition::Claim),
            Just(RunTransition::Complete),
            Just(RunTransition::Fail),
            Just(RunTransition::Cancel),
            Just(RunTransition::HandOver),
            (1..=MAX_ATTEMPTS).prop_map(|attempt| RunTransition::Release { attempt }),
        ]
    }

    proptest! {
        #[test]
        fn what_is_over_stays_over(steps in prop::collection::vec(transitions(), 0..40)) {
            let mut status = RunStatus::Pending;
            for step in steps {
                let before = status;
                if let Ok(next) = status.after(step) {
                    prop_assert!(!before.is_final());
                    status = next;
                }
            }
        }
    }
}
