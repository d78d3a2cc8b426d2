//! Puts LoRAs into a backend's folder.

mod copy;
mod error;
mod room;

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraPath};
use atelier_domain::ports::{
    BlobStore, FolderUsage, LoraCopies, LoraFile, LoraFolder, LoraPresence, LoraRepo, Telemetry,
};
use futures_util::future::{BoxFuture, FutureExt as _, Shared, WeakShared};
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::time::{MissedTickBehavior, interval};

use crate::opaque::opaque_debug;
use copy::{Copying, copy};
use room::Room;

pub use error::{CopyError, LoraSyncError};

/// Files that are copied at once for one run.
const COPIES_AT_ONCE: usize = 3;

/// How often the progress of copies is told.
const TELLING: Duration = Duration::from_millis(250);

/// Where LoRAs come from and go to.
#[derive(Clone)]
pub struct LoraSyncParts {
    /// The backend whose folder it is.
    pub backend: String,
    /// Where LoRAs are looked up.
    pub loras: Arc<dyn LoraRepo>,
    /// Who is told what is gone from the folder.
    pub copies: Arc<dyn LoraCopies>,
    /// Where the bytes are.
    pub blobs: Arc<dyn BlobStore>,
    /// Where they go.
    pub folder: Arc<dyn LoraFolder>,
    /// Where measurements go.
    pub telemetry: Arc<dyn Telemetry>,
}

impl fmt::Debug for LoraSyncParts {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("LoraSyncParts")
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

/// What one backend's folder lacks of a run's LoRAs.
#[derive(Clone, Debug, Default)]
pub struct SyncPlan {
    paths: Vec<LoraPath>,
    all_bytes: u64,
    missing: Vec<Copying>,
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
    room: Arc<Room>,
    flights: Arc<Mutex<HashMap<LoraPath, Underway>>>,
}

opaque_debug!(LoraSync);

impl LoraSync {
    /// Copies into one folder. Clones share their copies; make one per folder.
    pub fn new(parts: LoraSyncParts) -> Self {
        Self {
            room: Arc::new(Room {
                backend: parts.backend,
                folder: parts.folder,
                loras: Arc::clone(&parts.loras),
                copies: parts.copies,
                telemetry: parts.telemetry,
                evictions: AtomicU64::new(0),
                making: tokio::sync::Mutex::default(),
            }),
            loras: parts.loras,
            blobs: parts.blobs,
            flights: Arc::default(),
        }
    }

    /// How many files were evicted so far: what was said to be in the folder
    /// before may be gone.
    pub fn evictions(&self) -> u64 {
        self.room.evictions.load(Ordering::Relaxed)
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
            plan.all_bytes += copying.file.size_bytes;
            let presence = self
                .room
                .folder
                .presence(&copying.file)
                .await
                .map_err(in_folder)?;
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
        self.check_capacity(plan).await?;
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

    /// Copies a LoRA that no run needs yet, if it fits without anything being
    /// evicted. Says whether it is there.
    ///
    /// # Errors
    /// As [`LoraSync::carry_out`].
    pub async fn prefetch(&self, lora: &Lora) -> Result<bool, LoraSyncError> {
        let copying = Copying::of(lora).ok_or(LoraSyncError::Missing(lora.id))?;
        let folder = &self.room.folder;
        let presence = folder.presence(&copying.file).await.map_err(in_folder)?;
        if presence == LoraPresence::Verified {
            return Ok(true);
        }
        let usage = folder.usage().await.map_err(in_folder)?;
        if copying.file.size_bytes > spare_bytes(usage) {
            return Ok(false);
        }
        let path = copying.file.path.clone();
        let (flight, _done) = self.flight(copying);
        let copied = flight.await;
        copied.map_err(|cause| LoraSyncError::Copy { path, cause })?;
        Ok(true)
    }

    /// What can never fit need not be tried.
    async fn check_capacity(&self, plan: &SyncPlan) -> Result<(), LoraSyncError> {
        let usage = self.room.folder.usage().await.map_err(in_folder)?;
        let on_disk = usage.free_bytes.saturating_add(usage.ours_bytes);
        let capacity_bytes = usage.quota_bytes.unwrap_or(u64::MAX).min(on_disk);
        if plan.all_bytes > capacity_bytes {
            return Err(LoraSyncError::NeverFits {
                needed_bytes: plan.all_bytes,
                capacity_bytes,
            });
        }
        Ok(())
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
        let room = Arc::clone(&self.room);
        let done = Arc::new(AtomicU64::new(0));
        let count = Arc::clone(&done);
        let flight: Flight = async move {
            copy(blobs.as_ref(), &room, copying, &count)
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
                sha256: content.hashes.sha256,
            },
            blob_key: lora.blob_key.clone(),
        })
    }
}

fn in_folder(error: atelier_domain::ports::LoraFolderError) -> LoraSyncError {
    LoraSyncError::Folder(Arc::new(error))
}

/// Room that is there without anything being evicted.
fn spare_bytes(usage: FolderUsage) -> u64 {
    let by_quota = usage
        .quota_bytes
        .map_or(u64::MAX, |quota| quota.saturating_sub(usage.ours_bytes));
    usage.free_bytes.min(by_quota)
}
