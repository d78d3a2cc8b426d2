use std::collections::HashMap;
use std::sync::Arc;

use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{LoraFolderError, PathContent, RepoError};
use thiserror::Error;
use tokio::time::sleep;

use super::backoff::spread;
use super::station::{Shared, Station};

/// Paths that are asked about in one go.
const BATCH: usize = 500;

/// LoRAs that are brought before a run needs them, in one go.
const PREFETCHES: u16 = 4;

/// Why a folder was not looked after.
#[derive(Debug, Error)]
enum CaretakingError {
    #[error("the folder could not be used")]
    Folder(#[from] LoraFolderError),
    #[error("what stands in the folder could not be looked up")]
    Repo(#[from] RepoError),
}

/// Looks after one backend's LoRA folder: records what it lost the records of,
/// removes what no LoRA is any more, and brings what is asked for.
///
/// It touches only what the database knows to have stood at exactly that path,
/// byte for byte.
#[derive(Clone)]
pub(super) struct Caretaker {
    pub(super) shared: Arc<Shared>,
    pub(super) station: Arc<Station>,
}

impl Caretaker {
    /// For ever.
    pub(super) async fn keep_tidy(&self) {
        loop {
            if let Err(error) = self.tidy().await {
                tracing::warn!(
                    backend = self.station.name,
                    error = &error as &dyn std::error::Error,
                    "a LoRA folder was not looked after"
                );
            }
            let pause = self.shared.settings.cleaning;
            sleep(spread(self.shared.ids.as_ref(), pause)).await;
        }
    }

    async fn tidy(&self) -> Result<(), CaretakingError> {
        let folder = &self.station.folder;
        folder.check().await?;
        for content in self.known(folder.unrecorded().await?).await?.into_values() {
            if folder.adopt(&content.path, content.sha256).await? {
                tracing::info!(
                    backend = self.station.name,
                    lora.path = %content.path,
                    "recorded a LoRA again whose record was lost"
                );
            }
        }
        // Listed first, asked second, as wherever something is evicted.
        let installed = folder.installed().await?;
        let paths = installed.iter().map(|lora| lora.file.path.clone());
        let known = self.known(paths.collect()).await?;
        let dead: Vec<_> = installed
            .iter()
            .filter(|lora| {
                let content = known.get(&lora.file.path);
                content
                    .is_some_and(|content| !content.is_alive && content.sha256 == lora.file.sha256)
            })
            .collect();
        if dead.is_empty() {
            return Ok(());
        }
        let in_use = self.shared.loras.paths_in_use().await?;
        for lora in dead {
            if !in_use.contains(&lora.file.path) && folder.evict(lora).await? {
                tracing::info!(
                    backend = self.station.name,
                    lora.path = %lora.file.path,
                    "removed the copy of a LoRA that is gone"
                );
            }
        }
        Ok(())
    }

    async fn known(
        &self,
        paths: Vec<LoraPath>,
    ) -> Result<HashMap<LoraPath, PathContent>, RepoError> {
        let mut known = HashMap::new();
        for batch in paths.chunks(BATCH) {
            let contents = self.shared.loras.contents_at(batch.to_vec()).await?;
            known.extend(
                contents
                    .into_iter()
                    .map(|content| (content.path.clone(), content)),
            );
        }
        Ok(known)
    }

    /// For ever.
    pub(super) async fn prefetch(&self) {
        loop {
            let pause = self.shared.settings.telling;
            sleep(spread(self.shared.ids.as_ref(), pause)).await;
            while self.prefetch_some().await {}
        }
    }

    /// Whether there may be more.
    async fn prefetch_some(&self) -> bool {
        let (copies, queue) = (&self.shared.copies, self.shared.queue.as_ref());
        let wanted = match copies.take_requests(&self.station.name, PREFETCHES).await {
            Ok(wanted) => wanted,
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "LoRAs that are asked for were not looked for"
                );
                return false;
            }
        };
        for lora in &wanted {
            match self.station.sync.prefetch(lora).await {
                Ok(true) => self.station.tell_loras(queue, vec![lora.id]).await,
                Ok(false) => tracing::info!(
                    backend = self.station.name,
                    lora.id = %lora.id,
                    "there is no room for a LoRA that no run needs yet"
                ),
                Err(error) => tracing::warn!(
                    backend = self.station.name,
                    lora.id = %lora.id,
                    error = &error as &dyn std::error::Error,
                    "a LoRA was not brought before a run needs it"
                ),
            }
        }
        wanted.len() == usize::from(PREFETCHES)
    }
}
