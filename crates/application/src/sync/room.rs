use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use atelier_domain::ports::{
    InstallStart, InstalledLora, LoraCopies, LoraFile, LoraFolder, LoraFolderError, LoraRepo,
    Telemetry,
};

use super::error::CopyError;

/// How often room is made for one file: others may take what was made.
const TRIES: u32 = 3;

/// One backend's folder, and who may have room in it.
pub(super) struct Room {
    pub(super) backend: String,
    pub(super) folder: Arc<dyn LoraFolder>,
    pub(super) loras: Arc<dyn LoraRepo>,
    pub(super) copies: Arc<dyn LoraCopies>,
    pub(super) telemetry: Arc<dyn Telemetry>,
    /// How many files were evicted so far.
    pub(super) evictions: AtomicU64,
    /// One makes room at a time, or two evict for the same need.
    pub(super) making: tokio::sync::Mutex<()>,
}

impl Room {
    /// Begins to install a file; evicts what was not used for longest and no run
    /// needs, where there is no room.
    pub(super) async fn begin(&self, file: LoraFile) -> Result<InstallStart, CopyError> {
        let mut tries = 0;
        loop {
            let full = match self.folder.install(file.clone()).await {
                Ok(start) => return Ok(start),
                Err(full @ LoraFolderError::Full { .. }) => full,
                Err(error) => return Err(error.into()),
            };
            let LoraFolderError::Full {
                needed_bytes,
                available_bytes,
            } = full
            else {
                return Err(full.into());
            };
            tries += 1;
            if tries > TRIES {
                return Err(self.no_room(needed_bytes, available_bytes).await?);
            }
            self.make(needed_bytes, available_bytes).await?;
        }
    }

    async fn make(&self, needed_bytes: u64, available_bytes: u64) -> Result<(), CopyError> {
        let _making = self.making.lock().await;
        // Listed first, asked second: what comes into use in between is used after it was
        // listed, and not evicted.
        let mut installed = self.folder.installed().await?;
        let in_use = self.loras.paths_in_use().await.map_err(CopyError::Repo)?;
        installed.sort_by_key(|lora| lora.last_used);
        installed.retain(|lora| !in_use.contains(&lora.file.path));
        let wanted = needed_bytes.saturating_sub(available_bytes);
        let freed = self.evict(installed, wanted).await?;
        if freed == 0 {
            return Err(self.no_room(needed_bytes, available_bytes).await?);
        }
        Ok(())
    }

    /// Whatever of ours is there now is in use, or just being installed, or else
    /// it would be gone.
    async fn no_room(
        &self,
        needed_bytes: u64,
        available_bytes: u64,
    ) -> Result<CopyError, CopyError> {
        Ok(CopyError::NoRoom {
            needed_bytes,
            available_bytes,
            in_use_bytes: self.folder.usage().await?.ours_bytes,
        })
    }

    /// Evicts the first of these until `wanted` bytes are free; says how many
    /// are.
    async fn evict(&self, free: Vec<InstalledLora>, wanted: u64) -> Result<u64, CopyError> {
        let (mut freed, mut gone) = (0, Vec::new());
        for lora in free {
            if freed >= wanted {
                break;
            }
            if self.folder.evict(&lora).await? {
                tracing::info!(
                    backend = self.backend,
                    lora.path = %lora.file.path,
                    size_bytes = lora.file.size_bytes,
                    "evicted a LoRA to make room"
                );
                self.evictions.fetch_add(1, Ordering::Relaxed);
                freed += lora.file.size_bytes;
                gone.push(lora.file.path);
            }
        }
        if !gone.is_empty()
            && let Err(error) = self.copies.tell_gone(&self.backend, gone).await
        {
            // Runs come here for nothing then, and copy.
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "it was not told which LoRAs a backend lost"
            );
        }
        Ok(freed)
    }
}
