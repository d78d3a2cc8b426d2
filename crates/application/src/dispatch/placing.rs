//! Puts the pictures that a run needs into a backend's input folder.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atelier_domain::graph::{FileInput, FileValue, PromptGraph};
use atelier_domain::ids::UserId;
use atelier_domain::input::{Input, InputName, InputPath};
use atelier_domain::ports::{
    BlobError, BlobStore, ByteStream, ComfyClient, ComfyError, LoraCatalogue, ReleaseReason, Source,
};
use atelier_domain::run::RunPhase;
use futures_util::StreamExt as _;
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::attempt::Attempt;
use super::backoff::Backoff;
use super::ending::{Ending, Stop, wished};
use super::failure_words as words;
use crate::catalogue::file_input_table;

/// How long one picture may take, connection and all.
const PLACING: Duration = Duration::from_mins(5);

/// How often a backend that answers may not take a picture.
const REFUSALS: u32 = 3;

/// Why a picture was not put there.
#[derive(Debug, Error)]
enum PlacingError {
    #[error("the stored bytes of a picture are gone")]
    Gone,
    #[error("the stored bytes of a picture could not be read")]
    Blob(#[source] BlobError),
    #[error("the backend did not take a picture")]
    Backend(#[source] ComfyError),
}

impl PlacingError {
    /// Whether the same may work a little later.
    fn is_transient(&self) -> bool {
        match self {
            Self::Gone => false,
            Self::Blob(error) => matches!(error, BlobError::Unavailable(_)),
            Self::Backend(error) => !matches!(error, ComfyError::Unauthorized { .. }),
        }
    }

    /// Whether the backend answered, and did not do it: perhaps because another
    /// one's bytes were half there.
    fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Backend(ComfyError::Protocol(_) | ComfyError::Rejected(_))
        )
    }
}

impl Attempt<'_> {
    /// Puts the run's pictures into the backend's input folder.
    pub(super) async fn place_inputs(&self) -> Result<Vec<InputPath>, Stop> {
        if self.claimed.input_ids.is_empty() {
            return Ok(Vec::new());
        }
        self.reporter.phase(RunPhase::SyncingLoras);
        let until = Instant::now() + self.shared.settings.patience;
        let placing = async {
            let mut placed = Vec::new();
            for input in self.needed_inputs(until).await? {
                self.place_input(&input, until).await?;
                placed.push(input.comfyui_path);
            }
            Ok(placed)
        };
        let mut wishes = self.wishes.clone();
        tokio::select! {
            biased;
            wish = wished(&mut wishes) => Err(wish.ending(Vec::new()).into()),
            placed = placing => placed.map_err(Stop::Ended),
        }
    }

    async fn needed_inputs(&self, until: Instant) -> Result<Vec<Input>, Ending> {
        let ids = &self.claimed.input_ids;
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        loop {
            let inputs = &self.shared.inputs;
            match inputs.load_many(self.claimed.user_id, ids.clone()).await {
                Ok(found)
                    if ids
                        .iter()
                        .all(|id| found.iter().any(|input| input.id == *id)) =>
                {
                    return Ok(found);
                }
                Ok(_) => return Err(Ending::failed(words::input_gone())),
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the pictures of a run were not looked up"
                    );
                    if Instant::now() >= until {
                        return Err(Ending::Released(ReleaseReason::WorkerLost));
                    }
                    sleep(backoff.next()).await;
                }
            }
        }
    }

    async fn place_input(&self, input: &Input, until: Instant) -> Result<(), Ending> {
        let client = self.station.client.as_ref();
        let blobs = self.shared.blobs.as_ref();
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));
        let mut refusals = 0;
        loop {
            let error = match place(client, blobs, input).await {
                Ok(()) => return Ok(()),
                Err(error) => error,
            };
            refusals += u32::from(error.is_refusal());
            tracing::warn!(
                input.id = %input.id,
                error = &error as &dyn std::error::Error,
                "a picture was not put on a backend's disk"
            );
            if error.is_transient() && refusals < REFUSALS && Instant::now() < until {
                sleep(backoff.next()).await;
                continue;
            }
            return Err(match error {
                PlacingError::Gone => Ending::failed(words::input_gone()),
                PlacingError::Blob(_) if error.is_transient() => {
                    Ending::Released(ReleaseReason::WorkerLost)
                }
                PlacingError::Blob(_) => Ending::failed(words::input_not_placed(input)),
                PlacingError::Backend(_) if error.is_refusal() => {
                    Ending::failed(words::input_not_placed(input))
                }
                PlacingError::Backend(_) => {
                    self.station.mark_down();
                    Ending::Released(ReleaseReason::BackendLost)
                }
            });
        }
    }

    /// The last look at the files that the graph names, by what this backend
    /// says of its classes.
    pub(super) async fn check_inputs(
        &self,
        graph: &PromptGraph,
        placed: &[InputPath],
    ) -> Result<(), Stop> {
        let client = &self.station.client;
        let catalogue = match self.shared.catalogue.known_of(client) {
            Some(known) => Some(known),
            // Without it the classes that everybody knows are looked at.
            None => self
                .station
                .answer(self.shared.catalogue.ask(client))
                .await
                .ok(),
        };
        let owner = self.claimed.user_id;
        match unresolved(graph, owner, placed, catalogue.as_deref()) {
            None => Ok(()),
            Some(file) => Err(Ending::failed(words::input_not_yours(&file)).into()),
        }
    }
}

/// Puts one picture there, if it is not there already.
async fn place(
    client: &dyn ComfyClient,
    blobs: &dyn BlobStore,
    input: &Input,
) -> Result<(), PlacingError> {
    let reader = blobs.reader(&input.blob_key, None).await;
    let reader = reader.map_err(blob_trouble)?;
    if reader.size_bytes != input.size_bytes {
        return Err(PlacingError::Gone);
    }
    let broken = Arc::new(Mutex::new(None));
    let bytes = watched(reader.bytes, Arc::clone(&broken));
    let placing = client.place_input(&input.comfyui_path, input.size_bytes, bytes);
    let placed = timeout(PLACING, placing)
        .await
        .unwrap_or_else(|late| Err(ComfyError::AnswerLost(late.into())));
    placed.map_err(|error| {
        // The backend is not to blame for a store that broke off.
        let mut broken = broken.lock().unwrap_or_else(PoisonError::into_inner);
        match broken.take() {
            Some(trouble) => blob_trouble(trouble),
            None => PlacingError::Backend(error),
        }
    })
}

fn blob_trouble(error: BlobError) -> PlacingError {
    match error {
        BlobError::NotFound(_) => PlacingError::Gone,
        error => PlacingError::Blob(error),
    }
}

/// The same bytes; what breaks them off is kept for whoever asks why.
fn watched(
    bytes: ByteStream<BlobError>,
    broken: Arc<Mutex<Option<BlobError>>>,
) -> ByteStream<Source> {
    bytes
        .map(move |piece| {
            piece.map_err(|error| -> Source {
                let words = error.to_string().into();
                *broken.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
                words
            })
        })
        .boxed()
}

/// The first input that names a file which is neither this run's nor what an
/// earlier one of its owner's wrote: a class that this backend alone has may
/// name files, too.
fn unresolved(
    graph: &PromptGraph,
    owner: UserId,
    placed: &[InputPath],
    catalogue: Option<&LoraCatalogue>,
) -> Option<FileInput> {
    graph
        .file_inputs(&file_input_table(catalogue), owner)
        .into_iter()
        .find(|file| match &file.value {
            FileValue::OwnOutput => false,
            FileValue::Name(InputName::At(path)) => !placed.contains(path),
            FileValue::Name(InputName::Latest(_)) | FileValue::Refused(_) => true,
        })
}
