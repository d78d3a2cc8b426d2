use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ids::RunId;
use atelier_domain::ports::{BackendReport, ComfyError, Measurement, QueueError};
use thiserror::Error;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::backoff::spread;
use super::station::{Shared, Station};

/// How long a stopping worker tries to say that a backend is no longer served.
const LAST_WORD: Duration = Duration::from_secs(2);

/// Why a look at a backend came to nothing.
#[derive(Debug, Error)]
enum LookError {
    #[error(transparent)]
    Comfy(#[from] ComfyError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Looks after one backend: whether it answers, what is in its queue; and tells
/// the run queue, so that runs go where they are done soonest.
pub(super) struct Attendance {
    pub(super) shared: Arc<Shared>,
    pub(super) station: Arc<Station>,
}

impl Attendance {
    /// Until told to stop.
    pub(super) async fn keep(&self, mut stop: watch::Receiver<bool>) {
        let attending = async {
            loop {
                let foreign_prompts = match self.look().await {
                    Ok(foreign) => foreign,
                    Err(error) => {
                        tracing::debug!(
                            backend = self.station.name,
                            error = &error as &dyn std::error::Error,
                            "a backend could not be looked at"
                        );
                        if let LookError::Comfy(_) = error {
                            self.station.mark_down();
                        }
                        0
                    }
                };
                let answers = self.station.is_up();
                self.shared.telemetry.record(Measurement::BackendSeen {
                    backend: self.station.name.clone(),
                    answers,
                });
                self.tell(answers, foreign_prompts).await;
                sleep(spread(
                    self.shared.ids.as_ref(),
                    self.shared.settings.telling,
                ))
                .await;
            }
        };
        tokio::select! {
            biased;
            // An error says that the sender is gone, which stops us too.
            _stopped = stop.wait_for(|stopped| *stopped) => {}
            () = attending => {}
        }
        // Or others would leave runs to a backend that nobody serves.
        drop(timeout(LAST_WORD, self.tell(false, 0)).await);
    }

    /// Takes prompts out of the backend's queue that are there for nothing: of
    /// runs that are over, or went elsewhere. Says how many are not ours.
    async fn look(&self) -> Result<u32, LookError> {
        let queue = self.station.answer(self.station.client.queue()).await?;
        let mut foreign = 0_u32;
        let mut unfollowed: Vec<RunId> = Vec::new();
        for prompt_id in queue.running.iter().chain(&queue.pending) {
            match prompt_id.parse() {
                Ok(_) if self.station.link.follows(prompt_id) => {}
                Ok(run) => unfollowed.push(run),
                Err(_) => foreign = foreign.saturating_add(1),
            }
        }
        if unfollowed.is_empty() {
            return Ok(foreign);
        }
        // Whoever else uses the backend has prompts with UUIDs, too.
        let others = u32::try_from(unfollowed.len()).unwrap_or(u32::MAX);
        let strays = self
            .shared
            .queue
            .strays(&self.station.name, unfollowed)
            .await?;
        for run in strays {
            tracing::info!(
                backend = self.station.name,
                run.id = %run,
                "a backend has a prompt whose run is over or elsewhere; cancelling it"
            );
            self.station
                .answer(self.station.client.cancel(&run.to_string()))
                .await?;
        }
        Ok(foreign.saturating_add(others))
    }

    async fn tell(&self, answers: bool, foreign_prompts: u32) {
        let report = BackendReport {
            backend: self.station.name.clone(),
            worker: self.shared.settings.worker.clone(),
            answers,
            max_in_flight: self.station.room(),
            foreign_prompts,
            checkpoint: self.station.checkpoint(),
        };
        if let Err(error) = self.shared.queue.tell_backend(report).await {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the run queue was not told how a backend is"
            );
        }
    }
}
