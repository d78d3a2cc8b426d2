use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atelier_domain::graph::NodePolicy;
use atelier_domain::ids::LoraId;
use atelier_domain::ports::{
    BlobStore, Clock, ComfyClient, ComfyError, IdGen, InputRepo, LoraCopies, LoraFolder, LoraRepo,
    LoraUploads, PromptState, RunPreviews, RunQueue, RunSignals, Telemetry,
};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::backoff::{Backoff, spread};
use super::event_link::EventLink;
use super::settings::{Backend, WorkerSettings};
use crate::catalogue::CatalogueCache;
use crate::observation::TraceContext;
use crate::sync::{LoraSync, LoraSyncParts};

/// How long any single question to a backend may take; single answers take more
/// than a second on a busy one (`reference/comfyui/PROTOCOL.md` section 13).
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the one run that tries a backend out keeps the others away.
const TRIAL: Duration = Duration::from_secs(30);

/// What every part of a worker needs.
pub(super) struct Shared {
    pub(super) queue: Arc<dyn RunQueue>,
    pub(super) loras: Arc<dyn LoraRepo>,
    pub(super) inputs: Arc<dyn InputRepo>,
    pub(super) policy: Arc<NodePolicy>,
    pub(super) uploads: Arc<dyn LoraUploads>,
    pub(super) copies: Arc<dyn LoraCopies>,
    pub(super) blobs: Arc<dyn BlobStore>,
    pub(super) signals: Arc<dyn RunSignals>,
    pub(super) previews: Arc<dyn RunPreviews>,
    pub(super) catalogue: Arc<CatalogueCache>,
    pub(super) telemetry: Arc<dyn Telemetry>,
    pub(super) traces: Arc<dyn TraceContext>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<dyn IdGen>,
    pub(super) settings: WorkerSettings,
    pub(super) stations: Vec<Arc<Station>>,
}

/// How a backend is, as far as this worker saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    /// Nobody has asked it yet.
    Unseen,
    /// It does not answer; it gets no runs.
    Down,
    /// It answers again; one run tries it out.
    OnTrial { is_taken: bool },
    /// It works.
    Up,
}

/// A backend and all that a worker keeps about it.
pub(super) struct Station {
    pub(super) name: String,
    pub(super) client: Arc<dyn ComfyClient>,
    pub(super) folder: Arc<dyn LoraFolder>,
    pub(super) sync: LoraSync,
    pub(super) link: Arc<EventLink>,
    pub(super) max_in_flight: usize,
    answer_timeout: Duration,
    health: watch::Sender<Health>,
    memory: Mutex<Memory>,
}

/// What a worker remembers of a backend.
#[derive(Default)]
struct Memory {
    /// A prompt that was seen in its history: while it knows that one, it has
    /// not been restarted since.
    witness: Option<String>,
    /// The checkpoint that it loaded last.
    checkpoint: Option<String>,
    /// LoRAs that the queue was told to be on its disk.
    told_loras: HashSet<LoraId>,
    /// How many files had been evicted by then.
    told_before: u64,
}

/// Whether a backend still has its memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Recollection {
    /// It knows what it knew.
    Intact,
    /// It has forgotten: it was restarted, or somebody cleared its history.
    Gone,
    /// There is nothing to tell by.
    Unclear,
}

impl Station {
    pub(super) fn new(
        backend: Backend,
        loras: Arc<dyn LoraRepo>,
        copies: Arc<dyn LoraCopies>,
        blobs: Arc<dyn BlobStore>,
        telemetry: Arc<dyn Telemetry>,
        ids: Arc<dyn IdGen>,
        patience: Duration,
    ) -> Self {
        let client = Arc::clone(&backend.client);
        Self {
            link: Arc::new(EventLink::new(backend.name.clone(), client, ids)),
            sync: LoraSync::new(LoraSyncParts {
                backend: backend.name.clone(),
                loras,
                copies,
                blobs,
                folder: Arc::clone(&backend.folder),
                telemetry,
            }),
            name: backend.name,
            client: backend.client,
            folder: backend.folder,
            max_in_flight: backend.max_in_flight.max(1),
            answer_timeout: ANSWER_TIMEOUT.min(patience),
            health: watch::Sender::new(Health::Unseen),
            memory: Mutex::default(),
        }
    }

    /// [`Station::max_in_flight`], as the run queue counts.
    pub(super) fn room(&self) -> u32 {
        u32::try_from(self.max_in_flight).unwrap_or(u32::MAX)
    }

    /// Keeps further runs away until the backend answers again.
    pub(super) fn mark_down(&self) {
        self.health.send_if_modified(|health| {
            let is_news = *health != Health::Down;
            *health = Health::Down;
            is_news
        });
    }

    /// The backend did what it is for.
    pub(super) fn mark_up(&self) {
        self.health.send_if_modified(|health| {
            let is_news = *health != Health::Up;
            *health = Health::Up;
            is_news
        });
    }

    /// The run that was to try the backend out did not get so far, or not soon.
    pub(super) fn end_trial(&self) {
        self.health.send_if_modified(|health| {
            let was_taken = *health == Health::OnTrial { is_taken: true };
            if was_taken {
                *health = Health::OnTrial { is_taken: false };
            }
            was_taken
        });
    }

    pub(super) fn is_up(&self) -> bool {
        !matches!(*self.health.borrow(), Health::Unseen | Health::Down)
    }

    /// Waits until the backend may have a run: one, where it has to show first
    /// that it works. Says whether it was down.
    pub(super) async fn admitted(&self, ids: &dyn IdGen) -> bool {
        let mut health = self.health.subscribe();
        let mut was_down = false;
        loop {
            let now = *health.borrow_and_update();
            match now {
                Health::Up => return was_down,
                Health::OnTrial { is_taken: false } => {
                    self.health.send_replace(Health::OnTrial { is_taken: true });
                    return was_down;
                }
                Health::OnTrial { is_taken: true } => {
                    if timeout(TRIAL, health.changed()).await.is_err() {
                        self.end_trial();
                    }
                }
                Health::Unseen => {
                    was_down = true;
                    self.until_it_answers(ids).await;
                    self.mark_up();
                }
                Health::Down => {
                    was_down = true;
                    self.until_it_answers(ids).await;
                    self.health
                        .send_replace(Health::OnTrial { is_taken: false });
                }
            }
        }
    }

    async fn until_it_answers(&self, ids: &dyn IdGen) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(15));
        loop {
            match self.answer(self.client.information()).await {
                Ok(information) => {
                    tracing::info!(
                        backend = self.name,
                        backend.version = information.version,
                        "a backend answers"
                    );
                    return;
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

    /// Waits for the backend's answer, but not for ever.
    pub(super) async fn answer<T>(
        &self,
        question: impl Future<Output = Result<T, ComfyError>>,
    ) -> Result<T, ComfyError> {
        bounded(self.answer_timeout, question).await
    }

    /// Where a prompt stands.
    pub(super) async fn prompt_state(&self, prompt_id: &str) -> Result<PromptState, ComfyError> {
        let state = self.answer(self.client.prompt_state(prompt_id)).await?;
        if matches!(state, PromptState::Finished(_)) {
            self.memory().witness = Some(prompt_id.to_owned());
        }
        Ok(state)
    }

    /// Whether the backend knows what it knew, asked where it does not know
    /// `missing`: a prompt whose history is late looks like one that was lost in a
    /// restart (`reference/comfyui/PROTOCOL.md` sections 6 and 7).
    pub(super) async fn recollection(&self, missing: &str) -> Result<Recollection, ComfyError> {
        let witness = self.memory().witness.clone().filter(|id| id != missing);
        let Some(witness) = witness else {
            return Ok(Recollection::Unclear);
        };
        if self.answer(self.client.prompt_state(&witness)).await? == PromptState::Unknown {
            let mut memory = self.memory();
            if memory.witness.as_ref() == Some(&witness) {
                memory.witness = None;
                memory.checkpoint = None;
            }
            return Ok(Recollection::Gone);
        }
        Ok(Recollection::Intact)
    }

    /// The backend loads this checkpoint, if any.
    pub(super) fn loads(&self, checkpoint: Option<&str>) {
        if let Some(checkpoint) = checkpoint {
            self.memory().checkpoint = Some(checkpoint.to_owned());
        }
    }

    pub(super) fn checkpoint(&self) -> Option<String> {
        self.memory().checkpoint.clone()
    }

    /// Those of these LoRAs that the queue does not know to be here.
    pub(super) fn untold(&self, loras: &[LoraId]) -> Vec<LoraId> {
        let mut memory = self.memory();
        let evictions = self.sync.evictions();
        if memory.told_before != evictions {
            memory.told_before = evictions;
            memory.told_loras.clear();
        }
        let untold = loras.iter().filter(|id| !memory.told_loras.contains(id));
        untold.copied().collect()
    }

    /// Tells the queue that these are on the backend's disk, so that other runs
    /// with the same LoRAs come here.
    pub(super) async fn tell_loras(&self, queue: &dyn RunQueue, loras: Vec<LoraId>) {
        match queue.tell_loras(&self.name, loras.clone()).await {
            Ok(()) => self.memory().told_loras.extend(loras),
            Err(error) => tracing::debug!(
                error = &error as &dyn std::error::Error,
                "the run queue was not told which LoRAs a backend has"
            ),
        }
    }

    fn memory(&self) -> std::sync::MutexGuard<'_, Memory> {
        self.memory.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for a backend's answer, but not longer than `limit`.
pub(super) async fn bounded<T>(
    limit: Duration,
    question: impl Future<Output = Result<T, ComfyError>>,
) -> Result<T, ComfyError> {
    timeout(limit, question)
        .await
        .map_err(|late| ComfyError::AnswerLost(late.into()))?
}
