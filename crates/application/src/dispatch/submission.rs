use std::time::Duration;

use atelier_domain::graph::GraphJson;
use atelier_domain::ids::RunId;
use atelier_domain::ports::{
    ComfyError, NodeRejection, PromptRejection, PromptState, PromptSubmission,
};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::backoff::Backoff;
use super::station::Station;

/// How often a prompt is handed over at most. Each time but the first, the
/// backend has said again and again that it does not know the prompt. A backend that fails
/// now and then is met again; one that breaks down on the prompt is not for long.
const SUBMISSIONS: u32 = 6;

/// When a backend that does not know a prompt is asked again: the prompt may
/// still be on its way in, or it was so quick that its history is not there yet.
const FURTHER_LOOKS: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(700)];

/// What became of a submission.
#[derive(Debug)]
pub(super) enum Submitted {
    /// The backend has the prompt.
    Accepted {
        prompt_id: String,
    },
    /// The backend has a part of the prompt.
    Dropped {
        prompt_id: String,
        nodes: Vec<NodeRejection>,
    },
    Rejected(PromptRejection),
    /// The backend broke down on the prompt, again and again.
    Broken,
    Unauthorized {
        status: u16,
    },
    /// The backend is away; `may_live` if it may have taken the prompt.
    Away {
        may_live: bool,
    },
}

/// Hands one prompt to a backend, once.
pub(super) struct Submission<'a> {
    pub(super) station: &'a Station,
    pub(super) run: RunId,
    pub(super) client_id: String,
    pub(super) graph: GraphJson,
    pub(super) extra_data: Value,
    pub(super) patience: Duration,
}

impl Submission<'_> {
    pub(super) async fn hand_over(&self) -> Submitted {
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(2));
        for left in (0..SUBMISSIONS).rev() {
            let error = match self
                .station
                .answer(self.station.client.submit(self.prompt()))
                .await
            {
                Ok(taken) if taken.dropped.is_empty() => {
                    return Submitted::Accepted {
                        prompt_id: taken.prompt_id,
                    };
                }
                Ok(taken) => {
                    return Submitted::Dropped {
                        prompt_id: taken.prompt_id,
                        nodes: taken.dropped,
                    };
                }
                Err(error) => error,
            };
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a backend did not take a prompt"
            );
            match error {
                ComfyError::Rejected(rejection) => return Submitted::Rejected(rejection),
                ComfyError::Unauthorized { status } => return Submitted::Unauthorized { status },
                ComfyError::Unreachable(_) if left > 0 => sleep(backoff.next()).await,
                ComfyError::Unreachable(_) => return Submitted::Away { may_live: false },
                // The prompt may have been taken all the same
                // (`reference/comfyui/PROTOCOL.md` section 3).
                error => match self.look_up().await {
                    Ok(true) => {
                        return Submitted::Accepted {
                            prompt_id: self.run.to_string(),
                        };
                    }
                    Ok(false) if left == 0 => {
                        return match error {
                            ComfyError::ServerError { status: 500 } => Submitted::Broken,
                            _ => Submitted::Away { may_live: false },
                        };
                    }
                    Ok(false) => {}
                    Err(_) => return Submitted::Away { may_live: true },
                },
            }
        }
        Submitted::Away { may_live: false }
    }

    /// Whether the backend has the prompt. That it does not, it has to say again.
    async fn look_up(&self) -> Result<bool, ComfyError> {
        let prompt_id = self.run.to_string();
        let until = Instant::now() + self.patience;
        let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(5));
        let mut further = FURTHER_LOOKS.into_iter();
        loop {
            let pause = match self.station.prompt_state(&prompt_id).await {
                Ok(PromptState::Unknown) => match further.next() {
                    Some(pause) => pause,
                    None => return Ok(false),
                },
                Ok(_) => return Ok(true),
                Err(error) if Instant::now() >= until => return Err(error),
                Err(_) => backoff.next(),
            };
            sleep(pause).await;
        }
    }

    fn prompt(&self) -> PromptSubmission {
        PromptSubmission {
            run_id: self.run,
            client_id: self.client_id.clone(),
            graph: self.graph.clone(),
            extra_data: self.extra_data.clone(),
        }
    }
}
