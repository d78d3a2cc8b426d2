use atelier_domain::output::BackendOutput;
use atelier_domain::ports::{NodeRejection, PromptOutcome, PromptRejection, PromptResult};

/// How the backend answers one submission.
#[derive(Clone, Debug, PartialEq)]
pub enum SubmitAnswer {
    /// It takes the prompt, without these output nodes.
    Taken {
        /// The nodes that it leaves out; none for a sound prompt.
        dropped: Vec<NodeRejection>,
    },
    /// It takes the prompt, but the answer is lost.
    TakenUnheard,
    /// The prompt is lost on its way; whoever sent it hears the same as if
    /// the answer were.
    LostUnseen,
    /// There is no connection.
    Unreachable,
    /// It refuses the prompt.
    Rejected(PromptRejection),
    /// Something in front of it wants other credentials.
    Unauthorized(u16),
    /// It fails on its own.
    ServerError(u16),
}

/// What becomes of a prompt that the backend took.
#[derive(Clone, Debug, PartialEq)]
pub enum Then {
    /// It ends at once, and the socket says so.
    Ends(PromptResult),
    /// It ends when its state was asked for so many times, and the socket says
    /// nothing: late, or on a silent socket.
    EndsSilentlyAfter {
        /// How many questions are answered with `Running`.
        questions: u32,
        /// How it ends.
        result: PromptResult,
    },
    /// It stays in the queue until the test moves it.
    Waits,
    /// It runs until the test moves it.
    Runs,
    /// The backend forgets it at once, as after a restart.
    Vanishes,
}

/// What the backend does with one submission.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptScript {
    /// How it answers.
    pub answer: SubmitAnswer,
    /// What it calls the prompt; `None` for the run's id, as backends since
    /// 0.3.44 do.
    pub prompt_id: Option<String>,
    /// What happens then.
    pub then: Then,
}

impl PromptScript {
    /// Takes the prompt; `then` happens.
    pub const fn taken(then: Then) -> Self {
        Self {
            answer: SubmitAnswer::Taken {
                dropped: Vec::new(),
            },
            prompt_id: None,
            then,
        }
    }

    /// Takes the prompt and ends it well, with these outputs.
    pub const fn succeeds(outputs: Vec<BackendOutput>) -> Self {
        Self::taken(Then::Ends(PromptResult {
            outcome: PromptOutcome::Success,
            outputs,
        }))
    }

    /// Takes the prompt and ends it with a failed node.
    pub fn fails(node_id: &str, node_type: &str, exception_type: &str) -> Self {
        Self::taken(Then::Ends(PromptResult {
            outcome: PromptOutcome::Failed {
                node_id: Some(node_id.to_owned()),
                node_type: Some(node_type.to_owned()),
                exception_type: Some(exception_type.to_owned()),
            },
            outputs: Vec::new(),
        }))
    }

    /// Does not take the prompt.
    pub const fn refused(answer: SubmitAnswer) -> Self {
        Self {
            answer,
            prompt_id: None,
            then: Then::Vanishes,
        }
    }
}
