use std::sync::Arc;
use std::time::Duration;

use atelier_domain::input::Input;
use atelier_domain::lora::Lora;
use atelier_domain::ports::{FinishedUpload, QueueError};
use thiserror::Error;
use tokio::time::sleep;

use super::backoff::spread;
use super::station::Shared;

/// Rows that are taken care of in one go.
const BATCH: u16 = 100;

/// Goes that are made in a row, so that one janitor does not run for ever.
const MAX_BATCHES: u32 = 20;

/// How often answers to requests that nobody repeats any more are looked for.
const FORGETTING: Duration = Duration::from_mins(10);

/// Why a LoRA or a picture was not cleaned away.
#[derive(Debug, Error)]
enum CleaningError {
    #[error("its object could not be deleted")]
    Blob(#[from] atelier_domain::ports::BlobError),
    #[error("its row could not be forgotten")]
    Repo(#[from] atelier_domain::ports::RepoError),
}

/// Cleans up behind workers that died and users that deleted.
///
/// Any number of janitors may be about: everything they do may be done twice.
/// What is on backends' disks their caretakers remove: another LoRA may have the
/// same bytes at the same path.
pub(super) struct Janitor {
    pub(super) shared: Arc<Shared>,
}

impl Janitor {
    /// For ever.
    pub(super) async fn recover_runs(&self) {
        loop {
            self.pause(self.shared.settings.recovery).await;
            if let Err(error) = self.recover_runs_once().await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "runs that were left behind were not looked for"
                );
            }
        }
    }

    async fn recover_runs_once(&self) -> Result<(), QueueError> {
        let queue = &self.shared.queue;
        let patience = self.shared.settings.patience;
        for _ in 0..MAX_BATCHES {
            let expired = queue.recover_expired(BATCH).await?;
            for run in &expired {
                tracing::warn!(run.id = %run, "a run lost its worker and waits for another one");
            }
            let stranded = queue.free_stranded(patience, BATCH).await?;
            for run in &stranded {
                tracing::warn!(run.id = %run, "a run's backend is away for too long; any may begin it anew");
            }
            let overdue = queue.time_out_overdue(BATCH).await?;
            for run in &overdue {
                tracing::info!(run.id = %run, "a run took longer than it may");
            }
            let full = usize::from(BATCH);
            if expired.len() < full && stranded.len() < full && overdue.len() < full {
                break;
            }
        }
        Ok(())
    }

    /// For ever.
    pub(super) async fn forget_answers(&self) {
        loop {
            self.pause(FORGETTING).await;
            loop {
                match self.shared.queue.forget_answers(BATCH).await {
                    Ok(forgotten) if forgotten < u64::from(BATCH) => break,
                    Ok(_) => {}
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "old answers were not forgotten"
                        );
                        break;
                    }
                }
            }
        }
    }

    /// For ever.
    pub(super) async fn clean_loras(&self) {
        loop {
            self.pause(self.shared.settings.cleaning).await;
            self.clean_uploads().await;
            for _ in 0..MAX_BATCHES {
                let due = match self.shared.loras.due_for_cleaning(BATCH).await {
                    Ok(due) => due,
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "LoRAs to clean away were not looked for"
                        );
                        break;
                    }
                };
                let mut cleaned = 0;
                for lora in &due {
                    match self.clean(lora).await {
                        Ok(()) => cleaned += 1,
                        Err(error) => {
                            tracing::warn!(lora.id = %lora.id, error = &error as &dyn std::error::Error, "a LoRA was not cleaned away; trying again later");
                        }
                    }
                }
                // What failed comes first again, so going on would meet it at once.
                if due.len() < usize::from(BATCH) || cleaned == 0 {
                    break;
                }
            }
        }
    }

    /// Deletes the pieces of uploads that are over.
    async fn clean_uploads(&self) {
        for _ in 0..MAX_BATCHES {
            let finished = match self.shared.uploads.finished(BATCH).await {
                Ok(finished) => finished,
                Err(error) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "uploads that are over were not looked for"
                    );
                    return;
                }
            };
            let mut cleaned = 0;
            for upload in &finished {
                match self.clean_upload(upload).await {
                    Ok(()) => cleaned += 1,
                    Err(error) => {
                        tracing::warn!(lora.id = %upload.lora_id, error = &error as &dyn std::error::Error, "the pieces of an upload were not deleted; trying again later");
                    }
                }
            }
            if finished.len() < usize::from(BATCH) || cleaned == 0 {
                return;
            }
        }
    }

    async fn clean_upload(&self, upload: &FinishedUpload) -> Result<(), CleaningError> {
        for piece in &upload.pieces {
            self.shared.blobs.delete(piece).await?;
        }
        Ok(self.shared.uploads.forget(upload.lora_id).await?)
    }

    /// The row goes last: whatever breaks before it leaves something to try again.
    async fn clean(&self, lora: &Lora) -> Result<(), CleaningError> {
        self.shared.blobs.delete(&lora.blob_key).await?;
        self.shared.loras.forget(lora.id).await?;
        tracing::info!(lora.id = %lora.id, "cleaned a LoRA away");
        Ok(())
    }

    /// For ever.
    pub(super) async fn clean_inputs(&self) {
        loop {
            self.pause(self.shared.settings.cleaning).await;
            for _ in 0..MAX_BATCHES {
                let cleanable = match self.shared.inputs.cleanable(BATCH).await {
                    Ok(cleanable) => cleanable,
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "pictures to clean away were not looked for"
                        );
                        break;
                    }
                };
                let mut cleaned = 0;
                for input in &cleanable {
                    match self.clean_input(input).await {
                        Ok(()) => cleaned += 1,
                        Err(error) => {
                            tracing::warn!(input.id = %input.id, error = &error as &dyn std::error::Error, "a picture was not cleaned away; trying again later");
                        }
                    }
                }
                if cleanable.len() < usize::from(BATCH) || cleaned == 0 {
                    break;
                }
            }
        }
    }

    /// The row goes last, as above.
    async fn clean_input(&self, input: &Input) -> Result<(), CleaningError> {
        self.shared.blobs.delete(&input.blob_key).await?;
        self.shared.inputs.forget(input.id).await?;
        tracing::info!(input.id = %input.id, "cleaned a picture away");
        Ok(())
    }

    async fn pause(&self, interval: Duration) {
        sleep(spread(self.shared.ids.as_ref(), interval)).await;
    }
}
