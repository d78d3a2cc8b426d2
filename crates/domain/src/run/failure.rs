use super::RunLoss;

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

    /// What ends a run that lost the same thing once too often.
    pub fn exhausted(loss: RunLoss, count: u32) -> Self {
        let what = match loss {
            RunLoss::Worker => "the worker that had it was lost",
            RunLoss::Backend => "the ComfyUI that had it could not be reached any more",
            RunLoss::Execution => "ComfyUI broke down while it worked on it",
        };
        Self::new(
            RunFailureCode::AttemptsExhausted,
            format!("The run was begun {count} times, and each time {what}."),
        )
    }

    /// What ends a run that took longer than `seconds`.
    pub fn timed_out(seconds: u64) -> Self {
        Self::new(
            RunFailureCode::TimedOut,
            format!(
                "The run took longer than the {seconds} seconds that it may; ask for more with \
                 `timeout_s`, or make it smaller."
            ),
        )
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
    /// It lost its worker or its backend too often.
    AttemptsExhausted = "attempts_exhausted",
    /// The backend refuses our credentials. No longer given, since such a
    /// backend is down and its runs wait; kept for runs that ended so.
    BackendUnauthorized = "backend_unauthorized",
    /// A node failed while the backend worked on it.
    ExecutionFailed = "execution_failed",
    /// An input file that the run needs is gone, or is none of its owner's.
    InputMissing = "input_missing",
    /// An input file could not be put on the backend's disk.
    InputSyncFailed = "input_sync_failed",
    /// Somebody else stopped it on the backend.
    Interrupted = "interrupted",
    /// A LoRA that the run needs is gone.
    LoraMissing = "lora_missing",
    /// A LoRA could not be put on the backend's disk.
    LoraSyncFailed = "lora_sync_failed",
    /// The graph has a node that may not be used here.
    NodeRefused = "node_refused",
    /// An output could not be brought home.
    OutputLost = "output_lost",
    /// The backend made nothing that could be stored.
    NoOutputs = "no_outputs",
    /// The backend refused the graph.
    PromptRejected = "prompt_rejected",
    /// It took longer than it may.
    TimedOut = "timed_out",
}
