//! Puts LoRAs into a backend's folder.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraPath};
use atelier_domain::ports::{
    BlobError, BlobKey, BlobStore, ByteStream, LoraFile, LoraFolder, LoraFolderError, LoraInstall,
    LoraPresence, LoraRepo, RepoError,
};
use bytes::{Bytes, BytesMut};
use futures_util::future::{BoxFuture, FutureExt as _, Shared, WeakShared};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::opaque::opaque_debug;

/// Files that are copied at once for one run.
const COPIES_AT_ONCE: usize = 3;

/// Small pieces are joined to blocks of this size: a store hands out 8 KiB at a
/// time, which costs a folder a call each.
const BLOCK_BYTES: usize = 1024 * 1024;

/// Blocks between reading and writing. With one more in each hand a copy holds
/// a few blocks, or a few of the store's own pieces where those are larger.
const BLOCKS_BETWEEN: usize = 2;

/// How often the progress of copies is told.
const TELLING: Duration = Duration::from_millis(250);

/// How long a store or a folder may take for one piece.
const STALL: Duration = Duration::from_mins(1);

/// How long a folder may take to make a large file durable.
const FINISH: Duration = Duration::from_mins(10);

/// Why LoRAs could not be put where a run needs them.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum LoraSyncError {
    /// A LoRA is gone, or has no bytes.
    #[error("LoRA {0} is gone")]
    Missing(LoraId),
    /// The repository failed.
    #[error("LoRAs could not be looked up")]
    Repo(#[source] Arc<RepoError>),
    /// The folder could not be looked at.
    #[error("the LoRA folder could not be looked at")]
    Folder(#[source] Arc<LoraFolderError>),
    /// A copy failed.
    #[error("{path} could not be copied")]
    Copy {
        /// Where it was to go.
        path: LoraPath,
        /// Why.
        #[source]
        cause: Arc<CopyError>,
    },
}

/// Why one copy failed.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The object store has no such object.
    #[error("its object is gone")]
    ObjectGone,
    /// The object is not what was stored.
    #[error("its object has {stored_bytes} bytes instead of {expected_bytes}")]
    WrongSize {
        /// Bytes that it should have.
        expected_bytes: u64,
        /// Bytes that it has.
        stored_bytes: u64,
    },
    /// Store or folder took too long for one piece.
    #[error("the copy stood still for too long")]
    Stalled,
    /// The object store failed.
    #[error(transparent)]
    Blob(BlobError),
    /// The folder failed.
    #[error(transparent)]
    Folder(#[from] LoraFolderError),
}

impl From<BlobError> for CopyError {
    fn from(error: BlobError) -> Self {
        match error {
            BlobError::NotFound(_) => Self::ObjectGone,
            other => Self::Blob(other),
        }
    }
}

impl LoraSyncError {
    /// Whether trying again may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Missing(_) | Self::Folder(_) => false,
            Self::Repo(error) => matches!(**error, RepoError::Unavailable(_)),
            Self::Copy { cause, .. } => {
                matches!(
                    **cause,
                    CopyError::Blob(BlobError::Unavailable(_)) | CopyError::Stalled
                )
            }
        }
    }
}

/// What one backend's folder lacks of a run's LoRAs.
#[derive(Clone, Debug, Default)]
pub struct SyncPlan {
    paths: Vec<LoraPath>,
    missing: Vec<Copying>,
}

#[derive(Clone, Debug)]
struct Copying {
    file: LoraFile,
    blob_key: BlobKey,
}

impl SyncPlan {
    /// Where all the LoRAs are, or will be, below the folder.
    pub fn paths(&self) -> &[LoraPath] {
        &self.paths
    }

    /// Whether nothing has to be copied.
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty()
    }

    /// How many bytes have to be copied.
    pub fn missing_bytes(&self) -> u64 {
        self.missing
            .iter()
            .map(|copying| copying.file.size_bytes)
            .sum()
    }
}

type Flight = BoxFuture<'static, Result<(), Arc<CopyError>>>;

/// A copy that is under way, and how many bytes of it are done.
struct Underway {
    flight: WeakShared<Flight>,
    done: Arc<AtomicU64>,
}

/// Puts LoRAs into one backend's folder: verified, several at once, and one
/// copy at a time per file, which everybody who needs the file waits for.
#[derive(Clone)]
pub struct LoraSync {
    loras: Arc<dyn LoraRepo>,
    blobs: Arc<dyn BlobStore>,
    folder: Arc<dyn LoraFolder>,
    flights: Arc<Mutex<HashMap<LoraPath, Underway>>>,
}

opaque_debug!(LoraSync);

impl LoraSync {
    /// Copies from `blobs` to `folder`. Clones share their copies; make one per
    /// folder.
    pub fn new(
        loras: Arc<dyn LoraRepo>,
        blobs: Arc<dyn BlobStore>,
        folder: Arc<dyn LoraFolder>,
    ) -> Self {
        Self {
            loras,
            blobs,
            folder,
            flights: Arc::default(),
        }
    }

    /// Says what of these LoRAs the folder lacks. A file of the right name is
    /// not enough: what counts is what was verified when it was installed.
    ///
    /// # Errors
    /// [`LoraSyncError::Missing`] if one of them is gone.
    pub async fn plan(&self, ids: &[LoraId]) -> Result<SyncPlan, LoraSyncError> {
        let mut plan = SyncPlan::default();
        if ids.is_empty() {
            return Ok(plan);
        }
        let loras = self
            .loras
            .load_for_sync(ids.to_vec())
            .await
            .map_err(|error| LoraSyncError::Repo(Arc::new(error)))?;
        for id in ids {
            let copying = loras
                .iter()
                .find(|lora| lora.id == *id)
                .and_then(Copying::of)
                .ok_or(LoraSyncError::Missing(*id))?;
            plan.paths.push(copying.file.path.clone());
            let presence = self
                .folder
                .presence(&copying.file)
                .await
                .map_err(|error| LoraSyncError::Folder(Arc::new(error)))?;
            if presence == LoraPresence::Absent {
                plan.missing.push(copying);
            }
        }
        Ok(plan)
    }

    /// Copies what the plan says is missing, and tells now and then how many of
    /// its bytes are done, those that others copy included.
    ///
    /// # Cancellation
    /// A copy goes on while anybody waits for it; after that it leaves nothing.
    pub async fn carry_out(
        &self,
        plan: &SyncPlan,
        tell: &(dyn Fn(u64) + Sync),
    ) -> Result<(), LoraSyncError> {
        let (flights, counts): (Vec<_>, Vec<_>) = plan
            .missing
            .iter()
            .map(|copying| {
                let (flight, done) = self.flight(copying.clone());
                let path = copying.file.path.clone();
                let flight = flight.map(move |outcome| {
                    outcome.map_err(|cause| LoraSyncError::Copy { path, cause })
                });
                (flight, done)
            })
            .unzip();
        let done = || counts.iter().map(|done| done.load(Ordering::Relaxed)).sum();
        let copying = stream::iter(flights)
            .buffer_unordered(COPIES_AT_ONCE)
            .try_collect::<()>();
        let telling = async {
            let mut ticks = interval(TELLING);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                tell(done());
            }
        };
        tokio::select! {
            biased;
            outcome = copying => {
                tell(done());
                outcome
            }
            never = telling => never,
        }
    }

    /// Joins the copy of this file that is under way, or begins one.
    fn flight(&self, copying: Copying) -> (Shared<Flight>, Arc<AtomicU64>) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        flights.retain(|_, underway| {
            underway
                .flight
                .upgrade()
                .is_some_and(|flight| flight.peek().is_none())
        });
        if let Some(underway) = flights.get(&copying.file.path)
            && let Some(flight) = underway.flight.upgrade()
        {
            return (flight, Arc::clone(&underway.done));
        }
        let path = copying.file.path.clone();
        let blobs = Arc::clone(&self.blobs);
        let folder = Arc::clone(&self.folder);
        let done = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&done);
        let flight: Flight = async move {
            copy(blobs.as_ref(), folder.as_ref(), copying, &count)
                .await
                .map_err(Arc::new)
        }
        .boxed();
        let flight = flight.shared();
        if let Some(weak) = flight.downgrade() {
            let done = Arc::clone(&done);
            flights.insert(path, Underway { flight: weak, done });
        }
        (flight, done)
    }
}

impl Copying {
    /// `None` for a LoRA without bytes.
    fn of(lora: &Lora) -> Option<Self> {
        let content = lora.content.as_ref()?;
        Some(Self {
            file: LoraFile {
                path: content.comfyui_path.clone(),
                size_bytes: content.file_size,
                sha256: content.sha256,
            },
            blob_key: lora.blob_key.clone(),
        })
    }
}

#[tracing::instrument(skip_all, fields(lora.path = %copying.file.path, size_bytes = copying.file.size_bytes))]
async fn copy(
    blobs: &dyn BlobStore,
    folder: &dyn LoraFolder,
    copying: Copying,
    done: &AtomicU64,
) -> Result<(), CopyError> {
    let expected_bytes = copying.file.size_bytes;
    // Somebody may have installed it since the plan was made.
    if folder.presence(&copying.file).await? == LoraPresence::Verified {
        done.store(expected_bytes, Ordering::Relaxed);
        return Ok(());
    }
    let reader = unless_stalled(blobs.reader(&copying.blob_key, None)).await??;
    if reader.size_bytes != expected_bytes {
        return Err(CopyError::WrongSize {
            expected_bytes,
            stored_bytes: reader.size_bytes,
        });
    }
    let install = unless_stalled(folder.install(copying.file)).await??;
    let (sender, receiver) = mpsc::channel(BLOCKS_BETWEEN);
    // Both ends go on at the same time: a block is written while the next is read.
    let (read, written) = tokio::join!(read(reader.bytes, sender), write(install, receiver, done));
    let install = written?;
    read?;
    timeout(FINISH, install.finish()).await.map_err(stalled)??;
    tracing::info!("installed a LoRA");
    Ok(())
}

async fn read(
    mut bytes: ByteStream<BlobError>,
    sender: mpsc::Sender<Bytes>,
) -> Result<(), CopyError> {
    let mut block = BytesMut::new();
    while let Some(piece) = unless_stalled(bytes.next()).await? {
        let piece = piece?;
        let full = if block.is_empty() && piece.len() >= BLOCK_BYTES {
            piece
        } else {
            if block.is_empty() {
                // At once: growing by doubling leaves its steps behind, block after block.
                block.reserve(BLOCK_BYTES + piece.len());
            }
            block.extend_from_slice(&piece);
            if block.len() < BLOCK_BYTES {
                continue;
            }
            block.split().freeze()
        };
        if sender.send(full).await.is_err() {
            // Writing failed and says why.
            return Ok(());
        }
    }
    if !block.is_empty() {
        // As above.
        drop(sender.send(block.freeze()).await);
    }
    Ok(())
}

async fn write(
    mut install: Box<dyn LoraInstall>,
    mut receiver: mpsc::Receiver<Bytes>,
    done: &AtomicU64,
) -> Result<Box<dyn LoraInstall>, CopyError> {
    while let Some(block) = receiver.recv().await {
        let bytes = u64::try_from(block.len()).unwrap_or(u64::MAX);
        unless_stalled(install.write(block)).await??;
        done.fetch_add(bytes, Ordering::Relaxed);
    }
    Ok(install)
}

async fn unless_stalled<F: Future>(step: F) -> Result<F::Output, CopyError> {
    timeout(STALL, step).await.map_err(stalled)
}

fn stalled(_elapsed: tokio::time::error::Elapsed) -> CopyError {
    CopyError::Stalled
}
