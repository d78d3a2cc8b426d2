use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use atelier_domain::ports::{
    BlobStore, ComfyClient, ComfyError, IdGen, LoraFolder, LoraRepo, PromptState, RunQueue,
    RunSignals,
};
use tokio::time::{sleep, timeout};

use super::backoff::{Backoff, spread};
use super::event_link::EventLink;
use super::settings::{Backend, WorkerSettings};
use crate::catalogue::CatalogueCache;
use crate::sync::LoraSync;

/// How long any single question to a backend may take; single answers take more
/// than a second on a busy one (`reference/comfyui/PROTOCOL.md` section 13).
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// What every part of a worker needs.
pub(super) struct Shared {
    pub(super) queue: Arc<dyn RunQueue>,
    pub(super) loras: Arc<dyn LoraRepo>,
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) signals: Arc<dyn RunSignals>,
    pub(super) catalogue: Arc<CatalogueCache>,
    pub(super) ids: Arc<dyn IdGen>,
    pub(super) settings: WorkerSettings,
    pub(super) stations: Vec<Arc<Station>>,
}

/// A backend and all that a worker keeps about it.
pub(super) struct Station {
    pub(super) name: String,
    pub(super) client: Arc<dyn ComfyClient>,
    pub(super) folder: Arc<dyn LoraFolder>,
    pub(super) sync: LoraSync,
    pub(super) link: Arc<EventLink>,
    pub(super) max_in_flight: usize,
    answers: AtomicBool,
}

impl Station {
    pub(super) fn new(
        backend: Backend,
        loras: Arc<dyn LoraRepo>,
        blobs: Arc<dyn BlobStore>,
        ids: Arc<dyn IdGen>,
    ) -> Self {
        let client = Arc::clone(&backend.client);
        Self {
            link: Arc::new(EventLink::new(backend.name.clone(), client, ids)),
            sync: LoraSync::new(loras, blobs, Arc::clone(&backend.folder)),
            name: backend.name,
            client: backend.client,
            folder: backend.folder,
            max_in_flight: backend.max_in_flight.max(1),
            answers: AtomicBool::new(false),
        }
    }

    /// Keeps further runs away until the backend answers again.
    pub(super) fn mark_unreachable(&self) {
        self.answers.store(false, Ordering::Relaxed);
    }

    pub(super) fn answers(&self) -> bool {
        self.answers.load(Ordering::Relaxed)
    }

    /// Waits until the backend answers.
    pub(super) async fn until_it_answers(&self, ids: &dyn IdGen) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
        while !self.answers() {
            match bounded(self.client.information()).await {
                Ok(information) => {
                    tracing::info!(
                        backend = self.name,
                        backend.version = information.version,
                        "a backend answers"
                    );
                    self.answers.store(true, Ordering::Relaxed);
                }
                Err(error) => {
                    tracing::warn!(
                        backend = self.name,
                        error = &error as &dyn std::error::Error,
                        "a backend does not answer; it gets no runs"
                    );
                    sleep(spread(ids, backoff.next())).await;
                }
            }
        }
    }

    /// Where a prompt stands.
    pub(super) async fn prompt_state(&self, prompt_id: &str) -> Result<PromptState, ComfyError> {
        bounded(self.client.prompt_state(prompt_id)).await
    }
}

/// Waits for a backend's answer, but not for ever.
pub(super) async fn bounded<T>(
    question: impl Future<Output = Result<T, ComfyError>>,
) -> Result<T, ComfyError> {
    timeout(ANSWER_TIMEOUT, question)
        .await
        .map_err(|late| ComfyError::AnswerLost(late.into()))?
}
