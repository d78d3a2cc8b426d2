//! What ComfyUI offers by itself: the system's LoRAs.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use atelier_domain::graph::{FileInputTable, LoraInputTable};
use atelier_domain::lora::BaseModelFamily;
use atelier_domain::ports::{ComfyClient, ComfyError, LoraCatalogue};
use atelier_domain::safetensors::family_of_architecture;
use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

/// How long one backend may take: it blocks for a third of a second while it
/// lists its classes, and longer while it samples
/// (`reference/comfyui/PROTOCOL.md` sections 2 and 13).
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// How long a backend may take to read the head of a checkpoint.
const FAMILY_TIMEOUT: Duration = Duration::from_secs(3);

/// How long a checkpoint's family is believed: files are replaced.
const FAMILY_AGE: Duration = Duration::from_mins(10);

/// Checkpoints that are remembered; more than any installation has.
const MAX_FAMILIES: usize = 1_000;

/// The last known catalogues of all backends, and the whole they make.
///
/// Files in users' folders are left out: they are nobody's to find here.
pub struct CatalogueCache {
    backends: Vec<(String, Arc<dyn ComfyClient>)>,
    families: Families,
    known: RwLock<Known>,
    flight: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct Known {
    each: Vec<Option<Arc<LoraCatalogue>>>,
    merged: Option<Arc<LoraCatalogue>>,
    /// When somebody last began to ask; whoever asked may have given up since.
    tried_at: Option<Instant>,
    answered_at: Option<Instant>,
}

impl fmt::Debug for CatalogueCache {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("CatalogueCache")
            .field("backends", &self.backends.len())
            .finish_non_exhaustive()
    }
}

impl CatalogueCache {
    /// Will ask these backends, by their names; knows nothing yet.
    pub fn new(backends: Vec<(String, Arc<dyn ComfyClient>)>) -> Self {
        let known = Known {
            each: vec![None; backends.len()],
            ..Known::default()
        };
        Self {
            backends,
            families: Families::default(),
            known: RwLock::new(known),
            flight: tokio::sync::Mutex::new(()),
        }
    }

    /// What all backends together offer, as last known; `None` before any of
    /// them has answered.
    pub fn known(&self) -> Option<Arc<LoraCatalogue>> {
        self.read(|known| known.merged.clone())
    }

    /// What each backend offers, as last known, by its name.
    pub fn each(&self) -> Vec<(&str, Option<Arc<LoraCatalogue>>)> {
        let each = self.read(|known| known.each.clone());
        let names = self.backends.iter().map(|(name, _)| name.as_str());
        names.zip(each).collect()
    }

    /// The family of a checkpoint, by what its file says of itself; `None` where
    /// it says nothing, or no backend that offers it answers.
    pub async fn checkpoint_family(&self, checkpoint: &str) -> Option<BaseModelFamily> {
        if let Some(known) = self.families.known(checkpoint) {
            return known;
        }
        let each = self.read(|known| known.each.clone());
        let mut offering = self.backends.iter().zip(each).filter(|(_, catalogue)| {
            catalogue.as_ref().is_some_and(|catalogue| {
                catalogue
                    .models
                    .values()
                    .any(|options| options.contains(checkpoint))
            })
        });
        let ((_, client), _) = offering.next()?;
        let metadata = timeout(FAMILY_TIMEOUT, client.checkpoint_metadata(checkpoint)).await;
        match metadata {
            Ok(Ok(metadata)) => {
                let family = family_of_architecture(&metadata);
                self.families.keep(checkpoint, family);
                family
            }
            Ok(Err(error)) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a backend did not say what a checkpoint is"
                );
                None
            }
            Err(_late) => None,
        }
    }

    /// Asks every backend. One that does not answer keeps what was known of it.
    ///
    /// Whoever calls while another asks waits for that one's answer.
    pub async fn refresh(&self) {
        let called_at = Instant::now();
        let _flight = self.flight.lock().await;
        if self
            .read(|known| known.answered_at)
            .is_none_or(|at| at <= called_at)
        {
            self.ask_all().await;
        }
    }

    /// Asks every backend, unless they were asked within `age`, answered or
    /// not: one that does not answer costs its callers one wait, not one each.
    pub async fn refresh_if_older_than(&self, age: Duration) {
        let is_recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() < age);
        if is_recent(self.read(|known| known.answered_at)) {
            return;
        }
        let _flight = self.flight.lock().await;
        if !is_recent(self.read(|known| known.tried_at.max(known.answered_at))) {
            self.ask_all().await;
        }
    }

    /// Asks again and again, every `interval`, until `stop` says so.
    ///
    /// A process that takes runs in but has no worker runs this beside; a
    /// worker does it by itself.
    pub async fn keep_fresh(&self, interval: Duration, mut stop: watch::Receiver<bool>) {
        let refreshing = async {
            loop {
                self.refresh_if_older_than(interval / 2).await;
                sleep(interval).await;
            }
        };
        tokio::select! {
            () = refreshing => {}
            // An error says that the sender is gone, which stops us too.
            _stopped = stop.wait_for(|stopped| *stopped) => {}
        }
    }

    /// What one backend offers, as last known.
    pub(crate) fn known_of(&self, backend: &Arc<dyn ComfyClient>) -> Option<Arc<LoraCatalogue>> {
        let index = self.index_of(backend)?;
        self.read(|known| known.each.get(index).cloned().flatten())
    }

    /// Asks one backend now.
    pub(crate) async fn ask(
        &self,
        backend: &Arc<dyn ComfyClient>,
    ) -> Result<Arc<LoraCatalogue>, ComfyError> {
        let catalogue = ask(backend.as_ref()).await?;
        if let Some(index) = self.index_of(backend) {
            self.keep([(index, Arc::clone(&catalogue))]);
        }
        Ok(catalogue)
    }

    async fn ask_all(&self) {
        self.write(|known| known.tried_at = Some(Instant::now()));
        let answers = join_all(self.backends.iter().map(|(_, client)| ask(client.as_ref()))).await;
        let mut learnt = Vec::new();
        for (index, answer) in answers.into_iter().enumerate() {
            match answer {
                Ok(catalogue) => learnt.push((index, catalogue)),
                Err(error) => {
                    tracing::warn!(
                        backend.index = index,
                        error = &error as &dyn std::error::Error,
                        "a backend did not say which LoRAs it offers"
                    );
                }
            }
        }
        self.keep(learnt);
        self.write(|known| known.answered_at = Some(Instant::now()));
    }

    fn keep(&self, learnt: impl IntoIterator<Item = (usize, Arc<LoraCatalogue>)>) {
        self.write(|known| {
            for (index, catalogue) in learnt {
                if let Some(place) = known.each.get_mut(index) {
                    *place = Some(catalogue);
                }
            }
            known.merged = merged(&known.each);
        });
    }

    fn index_of(&self, backend: &Arc<dyn ComfyClient>) -> Option<usize> {
        self.backends
            .iter()
            .position(|(_, known)| std::ptr::addr_eq(Arc::as_ptr(known), Arc::as_ptr(backend)))
    }

    fn read<T>(&self, look: impl FnOnce(&Known) -> T) -> T {
        look(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write<T>(&self, change: impl FnOnce(&mut Known) -> T) -> T {
        change(&mut self.known.write().unwrap_or_else(PoisonError::into_inner))
    }
}

/// What checkpoints were found to be, and when.
#[derive(Default)]
struct Families(Mutex<HashMap<String, (Instant, Option<BaseModelFamily>)>>);

impl Families {
    #[expect(
        clippy::option_option,
        reason = "the outer one is that nobody asked lately"
    )]
    fn known(&self, checkpoint: &str) -> Option<Option<BaseModelFamily>> {
        let families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (at, family) = families.get(checkpoint)?;
        (at.elapsed() < FAMILY_AGE).then_some(*family)
    }

    fn keep(&self, checkpoint: &str, family: Option<BaseModelFamily>) {
        let mut families = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if families.len() >= MAX_FAMILIES {
            families.clear();
        }
        families.insert(checkpoint.to_owned(), (Instant::now(), family));
    }
}

/// The inputs that take a LoRA, as far as they are known.
pub(crate) fn lora_input_table(catalogue: Option<&LoraCatalogue>) -> LoraInputTable {
    catalogue.map_or_else(LoraInputTable::core, |catalogue| {
        catalogue.inputs.iter().cloned().collect()
    })
}

/// The inputs that name a file of the input folder, as far as they are known.
pub(crate) fn file_input_table(catalogue: Option<&LoraCatalogue>) -> FileInputTable {
    catalogue.map_or_else(FileInputTable::core, |catalogue| {
        catalogue.input_files.iter().cloned().collect()
    })
}

async fn ask(backend: &dyn ComfyClient) -> Result<Arc<LoraCatalogue>, ComfyError> {
    let mut catalogue = timeout(ANSWER_TIMEOUT, backend.lora_catalogue())
        .await
        .map_err(|late| ComfyError::AnswerLost(late.into()))??;
    catalogue.files.retain(|file| !is_in_user_folder(file));
    Ok(Arc::new(catalogue))
}

fn is_in_user_folder(file: &str) -> bool {
    let folders = file.rsplit_once('/').map_or("", |(folders, _)| folders);
    folders.split('/').any(|folder| {
        folder
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case("user-"))
    })
}

fn merged(each: &[Option<Arc<LoraCatalogue>>]) -> Option<Arc<LoraCatalogue>> {
    let mut known = each.iter().flatten();
    let first = known.next()?;
    let Some(second) = known.next() else {
        return Some(Arc::clone(first));
    };
    let mut whole = LoraCatalogue::clone(first);
    for catalogue in std::iter::once(second).chain(known) {
        whole.files.extend(catalogue.files.iter().cloned());
        whole.inputs.extend(catalogue.inputs.iter().cloned());
        whole.classes.extend(catalogue.classes.iter().cloned());
        let input_files = catalogue.input_files.iter().cloned();
        whole.input_files.extend(input_files);
        for (input, options) in &catalogue.models {
            let all = whole.models.entry(input.clone()).or_default();
            all.extend(options.iter().cloned());
        }
    }
    Some(Arc::new(whole))
}
