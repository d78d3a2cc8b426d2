use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraFailure, LoraFilename, LoraSource, NewLora, ReceivedLora};
use atelier_domain::ports::{
    BlobStore, BlobWriter, Clock, IdGen, LoraRepo, RepoError, WriteOutcome,
};
use atelier_domain::text::{Name, Tags};
use atelier_domain::validation::Violation;
use bytes::Bytes;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::UploadLoraError;
use super::details::{CheckedDetails, LoraDetails};
use super::receiving::{Received, Receiving};
use crate::opaque::opaque_debug;

/// After so long the row is told how far the upload is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

/// After so many bytes the row is told how far the upload is.
const PROGRESS_BYTES: u64 = 64 * 1024 * 1024;

/// How often the last write is tried while the database is away: the whole
/// file is there, and it would be a pity.
const READY_TRIES: u32 = 5;

/// Takes a LoRA in, piece by piece, in constant memory.
#[derive(Clone)]
pub struct UploadLora {
    /// Where its place is kept.
    pub loras: Arc<dyn LoraRepo>,
    /// Where its bytes go.
    pub blobs: Arc<dyn BlobStore>,
    /// Tells when.
    pub clock: Arc<dyn Clock>,
    /// Names it.
    pub ids: Arc<dyn IdGen>,
    /// How many bytes a file may have.
    pub max_bytes: u64,
}

opaque_debug!(UploadLora);

impl UploadLora {
    /// Keeps a place for a file of that name and begins to write it.
    ///
    /// `declared_bytes` is how large the sender says the file is, where that is
    /// known.
    ///
    /// # Errors
    /// [`UploadLoraError::Invalid`] for the file's name,
    /// [`UploadLoraError::FilenameTaken`], [`UploadLoraError::TooLarge`].
    #[tracing::instrument(skip_all, fields(user.id = %actor.user_id()))]
    pub async fn begin(
        &self,
        actor: Actor,
        filename: &str,
        declared_bytes: Option<u64>,
    ) -> Result<LoraUpload, UploadLoraError> {
        let filename = LoraFilename::parse(filename).map_err(|fault| {
            let detail = format!("the file's name {fault}");
            UploadLoraError::Invalid(vec![Violation::new("/file", detail)])
        })?;
        if declared_bytes.is_some_and(|bytes| bytes > self.max_bytes) {
            return Err(UploadLoraError::TooLarge {
                limit_bytes: self.max_bytes,
            });
        }
        let new = NewLora {
            id: LoraId::new(self.ids.new_id()),
            name: default_name(&filename)?,
            filename,
            description: None,
            tags: Tags::default(),
            source: LoraSource::Upload,
            bytes_total: declared_bytes,
            created_at: self.clock.now(),
        };
        // The row comes first, so that no object is ever without one.
        let lora = self.loras.reserve(&actor, new).await?;
        let mut upload = LoraUpload {
            reservation: Some(Reservation {
                loras: Arc::clone(&self.loras),
                actor,
                id: lora.id,
            }),
            writer: None,
            receiving: Some(Receiving::new(self.max_bytes)),
            name: lora.name,
            told_at: Instant::now(),
            told_bytes: 0,
        };
        match self.blobs.writer(&lora.blob_key).await {
            Ok(writer) => {
                upload.writer = Some(writer);
                Ok(upload)
            }
            Err(error) => Err(upload.give_up(error.into()).await),
        }
    }
}

fn default_name(filename: &LoraFilename) -> Result<Name, UploadLoraError> {
    Name::parse(filename.stem()).map_err(|fault| {
        let detail = format!("the file's name without its extension {fault}");
        UploadLoraError::Invalid(vec![Violation::new("/file", detail)])
    })
}

/// A LoRA being uploaded.
///
/// Dropped, it gives its place up as [`LoraUpload::abort`] does, as far as a
/// runtime is there to do it; what is left after a crash, the worker cleans.
pub struct LoraUpload {
    /// `None` once the row is ready or given up.
    reservation: Option<Reservation>,
    writer: Option<Box<dyn BlobWriter>>,
    receiving: Option<Receiving>,
    name: Name,
    told_at: Instant,
    told_bytes: u64,
}

impl fmt::Debug for LoraUpload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lora_id = self.reservation.as_ref().map(|reservation| reservation.id);
        formatter
            .debug_struct("LoraUpload")
            .field("lora_id", &lora_id)
            .field(
                "received_bytes",
                &self.receiving.as_ref().map(Receiving::received_bytes),
            )
            .finish_non_exhaustive()
    }
}

impl LoraUpload {
    /// Takes the next bytes of the file, of any number; waits while the store
    /// is behind.
    ///
    /// A file that is no LoRA is refused as soon as its header is there.
    ///
    /// # Errors
    /// After an error the upload is over, and has cleaned up after itself.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), UploadLoraError> {
        match self.take(bytes).await {
            Ok(()) => Ok(()),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    /// Ends the file: from now on runs may use the LoRA.
    ///
    /// # Errors
    /// As [`LoraUpload::write`]; [`UploadLoraError::Invalid`] for the details,
    /// and [`UploadLoraError::NotSafetensors`] for a file that was cut short.
    pub async fn finish(mut self, details: LoraDetails) -> Result<Lora, UploadLoraError> {
        match self.complete(&details).await {
            Ok(lora) => Ok(lora),
            Err(error) => Err(self.give_up(error).await),
        }
    }

    /// Gives the upload up, because its bytes stopped coming.
    pub async fn abort(mut self) {
        self.clean_up(interrupted()).await;
    }

    async fn take(&mut self, bytes: Bytes) -> Result<(), UploadLoraError> {
        let (Some(receiving), Some(writer)) = (&mut self.receiving, &mut self.writer) else {
            return Err(UploadLoraError::ReservationLost);
        };
        receiving.take(&bytes)?;
        writer.write(bytes).await?;
        self.tell().await
    }

    /// Tells the row how far the upload is, now and then: this also keeps the
    /// place.
    async fn tell(&mut self) -> Result<(), UploadLoraError> {
        let (Some(reservation), Some(receiving)) = (&self.reservation, &self.receiving) else {
            return Ok(());
        };
        let bytes_done = receiving.received_bytes();
        let is_due = self.told_at.elapsed() >= PROGRESS_INTERVAL
            || bytes_done.saturating_sub(self.told_bytes) >= PROGRESS_BYTES;
        if !is_due {
            return Ok(());
        }
        self.told_at = Instant::now();
        self.told_bytes = bytes_done;
        let outcome = reservation
            .loras
            .record_progress(&reservation.actor, reservation.id, bytes_done)
            .await;
        match outcome {
            Ok(WriteOutcome::Done(())) => Ok(()),
            Ok(_) => Err(UploadLoraError::ReservationLost),
            // The file need not suffer for a database that is away for a moment.
            Err(RepoError::Unavailable(error)) => {
                tracing::warn!(lora.id = %reservation.id, error = &*error as &dyn std::error::Error, "the progress of an upload was not recorded");
                Ok(())
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn complete(&mut self, details: &LoraDetails) -> Result<Lora, UploadLoraError> {
        let checked = details.check();
        let received = self
            .receiving
            .take()
            .ok_or(UploadLoraError::ReservationLost)?
            .finish()?;
        let details = checked?;
        let writer = self.writer.take().ok_or(UploadLoraError::ReservationLost)?;
        let stored = writer.finish().await?;
        if stored.size_bytes != received.file_size {
            return Err(UploadLoraError::Blob(
                atelier_domain::ports::BlobError::Backend(
                    format!(
                        "stored {} of {} bytes",
                        stored.size_bytes, received.file_size
                    )
                    .into(),
                ),
            ));
        }
        let lora = self.mark_ready(received, details).await?;
        self.reservation = None;
        Ok(lora)
    }

    async fn mark_ready(
        &mut self,
        received: Received,
        details: CheckedDetails,
    ) -> Result<Lora, UploadLoraError> {
        let Some(reservation) = &self.reservation else {
            return Err(UploadLoraError::ReservationLost);
        };
        let received = ReceivedLora {
            name: details.name.unwrap_or_else(|| self.name.clone()),
            description: details.description,
            tags: details.tags,
            file_size: received.file_size,
            sha256: received.sha256,
            facts: received.facts,
        };
        let mut pause = Duration::from_millis(100);
        for left in (0..READY_TRIES).rev() {
            let outcome = reservation
                .loras
                .mark_ready(&reservation.actor, reservation.id, received.clone())
                .await;
            match outcome {
                Ok(WriteOutcome::Done(lora)) => return Ok(lora),
                Ok(_) => break,
                Err(RepoError::Unavailable(_)) if left > 0 => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
                Err(error) => return Err(error.into()),
            }
        }
        // A try whose answer was lost may have made it ready after all.
        let lora = reservation
            .loras
            .get(&reservation.actor, reservation.id)
            .await?;
        lora.filter(|lora| lora.content.is_some())
            .ok_or(UploadLoraError::ReservationLost)
    }

    async fn give_up(&mut self, error: UploadLoraError) -> UploadLoraError {
        let (code, message) = error.failure();
        self.clean_up(LoraFailure {
            code: code.to_owned(),
            message,
        })
        .await;
        error
    }

    async fn clean_up(&mut self, failure: LoraFailure) {
        self.receiving = None;
        if let Some(writer) = self.writer.take()
            && let Err(error) = writer.abort().await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a broken-off object was not thrown away; the store will expire it"
            );
        }
        if let Some(reservation) = self.reservation.take() {
            reservation.give_up(failure).await;
        }
    }
}

fn interrupted() -> LoraFailure {
    LoraFailure {
        code: "upload_interrupted".to_owned(),
        message: "the upload broke off before the whole file was there; upload it again".to_owned(),
    }
}

impl Drop for LoraUpload {
    fn drop(&mut self) {
        let writer = self.writer.take();
        let Some(reservation) = self.reservation.take() else {
            return;
        };
        // Without a runtime the row stays until it counts as abandoned.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let cleaning = async move {
            if let Some(writer) = writer
                && let Err(error) = writer.abort().await
            {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "a broken-off object was not thrown away; the store will expire it"
                );
            }
            reservation.give_up(interrupted()).await;
        };
        drop(runtime.spawn(cleaning.in_current_span()));
    }
}

/// The place that is kept for a file.
struct Reservation {
    loras: Arc<dyn LoraRepo>,
    actor: Actor,
    id: LoraId,
}

impl Reservation {
    async fn give_up(self, failure: LoraFailure) {
        if let Err(error) = self.loras.mark_failed(&self.actor, self.id, failure).await {
            // It counts as abandoned after a while and is cleaned then.
            tracing::warn!(lora.id = %self.id, error = &error as &dyn std::error::Error, "a place kept for an upload was not given up");
        }
    }
}
