use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraFailure, LoraFilename, LoraSource, NewLora, ReceivedLora};
use atelier_domain::ports::{
    BlobStore, Clock, Conflict, IdGen, LoraName, LoraRepo, RepoError, WriteOutcome,
};
use atelier_domain::text::{Name, Tags};
use atelier_domain::validation::Violation;
use bytes::Bytes;
use tokio::time::Instant;
use tracing::Instrument as _;

use super::UploadLoraError;
use super::comparing::Comparing;
use super::details::{CheckedDetails, LoraDetails};
use super::intake::Intake;
use super::receiving::Received;
use crate::allowance::Allowance;
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
    /// What one person may take up.
    pub allowance: Allowance,
}

opaque_debug!(UploadLora);

/// What became of an upload.
#[derive(Clone, Debug, PartialEq)]
pub enum Uploaded {
    /// A new LoRA, or a new version of one.
    New(Box<Lora>),
    /// Nothing: the actor has these very bytes under this filename.
    Same(Box<Lora>),
}

impl UploadLora {
    /// Keeps a place for a file of that name and begins to write it.
    ///
    /// `declared_bytes` is how large the sender says the file is, where that is
    /// known. With `replaces`, a LoRA of that filename becomes a superseded
    /// version once the new bytes are there; without, they must be the same
    /// ones, which is found out as early as can be.
    ///
    /// # Errors
    /// [`UploadLoraError::Invalid`] for the file's name,
    /// [`UploadLoraError::FilenameTaken`], [`UploadLoraError::TooLarge`],
    /// [`UploadLoraError::Quota`].
    #[tracing::instrument(skip_all, fields(user.id = %actor.user_id()))]
    pub async fn begin(
        &self,
        actor: Actor,
        filename: &str,
        declared_bytes: Option<u64>,
        replaces: bool,
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
            name: default_name(&filename, "/file")?,
            filename: filename.clone(),
            description: None,
            tags: Tags::default(),
            source: LoraSource::Upload,
            bytes_total: declared_bytes,
            replaces,
            created_at: self.clock.now(),
        };
        // The row comes first, so that no object is ever without one.
        let lora = match self.loras.reserve(&actor, new).await {
            Ok(lora) => lora,
            Err(RepoError::Conflict(Conflict::LoraFilename)) => {
                let existing = latest(self.loras.as_ref(), &actor, filename).await?;
                let existing = existing.ok_or(UploadLoraError::FilenameTaken { existing: None })?;
                let comparing = Comparing::with(existing, self.max_bytes)?;
                return Ok(LoraUpload(Stage::Comparing(Box::new(comparing))));
            }
            Err(error) => return Err(error.into()),
        };
        let reservation = Reservation {
            loras: Arc::clone(&self.loras),
            allowance: self.allowance.clone(),
            actor,
            id: lora.id,
        };
        // The place counts by now, so that several uploads at once do not pass the quota together.
        if let Err(error) = self.allowance.loras(&reservation.actor, 0).await {
            let error = UploadLoraError::from(error);
            reservation.give_up(error.failure()).await;
            return Err(error);
        }
        match Intake::open(&self.blobs, &lora.blob_key, self.max_bytes).await {
            Ok(intake) => Ok(LoraUpload(Stage::Storing(Box::new(Storing {
                reservation: Some(reservation),
                intake: Some(intake),
                replaces: replaces.then_some(lora.filename),
                name: lora.name,
                told_at: Instant::now(),
                told_bytes: 0,
            })))),
            Err(error) => {
                let error = UploadLoraError::from(error);
                reservation.give_up(error.failure()).await;
                Err(error)
            }
        }
    }
}

/// What a LoRA is called whose owner does not say.
pub(super) fn default_name(
    filename: &LoraFilename,
    pointer: &str,
) -> Result<Name, UploadLoraError> {
    Name::parse(filename.stem()).map_err(|fault| {
        let detail = format!("the file's name without its extension {fault}");
        UploadLoraError::Invalid(vec![Violation::new(pointer, detail)])
    })
}

/// The actor's ready LoRA of that filename.
pub(super) async fn latest(
    loras: &dyn LoraRepo,
    actor: &Actor,
    filename: LoraFilename,
) -> Result<Option<Lora>, RepoError> {
    let found = loras
        .find_ready(actor, vec![LoraName::Latest(filename)])
        .await?;
    Ok(found.into_iter().next())
}

/// A LoRA being uploaded.
///
/// Dropped, it gives its place up as [`LoraUpload::abort`] does, as far as a
/// runtime is there to do it; what is left after a crash, the worker cleans.
pub struct LoraUpload(Stage);

enum Stage {
    /// Into a place of its own.
    Storing(Box<Storing>),
    /// Against what is there under its filename.
    Comparing(Box<Comparing>),
}

impl fmt::Debug for LoraUpload {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = formatter.debug_struct("LoraUpload");
        match &self.0 {
            Stage::Storing(storing) => shown.field("intake", &storing.intake),
            Stage::Comparing(comparing) => shown.field("existing", &comparing.existing_id()),
        };
        shown.finish_non_exhaustive()
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
        match &mut self.0 {
            Stage::Comparing(comparing) => comparing.take(bytes).await,
            Stage::Storing(storing) => match storing.take(bytes).await {
                Ok(()) => Ok(()),
                Err(error) => Err(storing.give_up(error).await),
            },
        }
    }

    /// Ends the file: from now on runs may use the LoRA.
    ///
    /// # Errors
    /// As [`LoraUpload::write`]; [`UploadLoraError::Invalid`] for the details,
    /// and [`UploadLoraError::NotSafetensors`] for a file that was cut short.
    pub async fn finish(self, details: LoraDetails) -> Result<Uploaded, UploadLoraError> {
        match self.0 {
            Stage::Comparing(comparing) => {
                details.check()?;
                comparing.finish().await.map(Uploaded::Same)
            }
            Stage::Storing(mut storing) => match storing.complete(&details).await {
                Ok(uploaded) => Ok(uploaded),
                Err(error) => Err(storing.give_up(error).await),
            },
        }
    }

    /// Gives the upload up, because its bytes stopped coming.
    pub async fn abort(self) {
        if let Stage::Storing(mut storing) = self.0 {
            storing.clean_up(interrupted()).await;
        }
    }
}

/// A file on its way into a place of its own.
struct Storing {
    /// `None` once the row is ready or given up.
    reservation: Option<Reservation>,
    intake: Option<Intake>,
    /// The filename, if a LoRA that has it is to be replaced.
    replaces: Option<LoraFilename>,
    name: Name,
    told_at: Instant,
    told_bytes: u64,
}

impl Storing {
    async fn take(&mut self, bytes: Bytes) -> Result<(), UploadLoraError> {
        let Some(intake) = &mut self.intake else {
            return Err(UploadLoraError::ReservationLost);
        };
        intake.write(bytes).await?;
        self.tell().await
    }

    /// Tells the row how far the upload is, now and then: this also keeps the
    /// place.
    async fn tell(&mut self) -> Result<(), UploadLoraError> {
        let (Some(reservation), Some(intake)) = (&self.reservation, &self.intake) else {
            return Ok(());
        };
        let bytes_done = intake.received_bytes();
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

    async fn complete(&mut self, details: &LoraDetails) -> Result<Uploaded, UploadLoraError> {
        let intake = self.intake.take().ok_or(UploadLoraError::ReservationLost)?;
        // A broken file is told before what is wrong about its description.
        let mut checked = None;
        let received = intake
            .finish(|_received| {
                checked = Some(details.check()?);
                Ok(())
            })
            .await?;
        let details = checked.ok_or(UploadLoraError::ReservationLost)?;
        if let Some(same) = self.same_as(&received).await? {
            return Ok(Uploaded::Same(Box::new(same)));
        }
        let lora = self.mark_ready(received, details).await?;
        self.reservation = None;
        Ok(Uploaded::New(Box::new(lora)))
    }

    /// The LoRA that was to be replaced, if it has these very bytes; then the
    /// place is given back.
    async fn same_as(&mut self, received: &Received) -> Result<Option<Lora>, UploadLoraError> {
        let (Some(filename), Some(reservation)) = (&self.replaces, &self.reservation) else {
            return Ok(None);
        };
        let latest = latest(
            reservation.loras.as_ref(),
            &reservation.actor,
            filename.clone(),
        )
        .await?;
        let same = latest.filter(|lora| {
            let content = lora.content.as_ref();
            content.is_some_and(|content| content.hashes.sha256 == received.hashes.sha256)
        });
        if same.is_some()
            && let Some(reservation) = self.reservation.take()
        {
            reservation.withdraw().await;
        }
        Ok(same)
    }

    async fn mark_ready(
        &mut self,
        received: Received,
        details: CheckedDetails,
    ) -> Result<Lora, UploadLoraError> {
        let Some(reservation) = &self.reservation else {
            return Err(UploadLoraError::ReservationLost);
        };
        reservation.check_quota(received.file_size).await?;
        let received = ReceivedLora {
            name: details.name.unwrap_or_else(|| self.name.clone()),
            description: details.description,
            tags: details.tags,
            file_size: received.file_size,
            hashes: received.hashes,
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
        self.clean_up(error.failure()).await;
        error
    }

    async fn clean_up(&mut self, failure: LoraFailure) {
        if let Some(intake) = self.intake.take() {
            intake.abort().await;
        }
        if let Some(reservation) = self.reservation.take() {
            reservation.give_up(failure).await;
        }
    }
}

pub(super) fn interrupted() -> LoraFailure {
    LoraFailure {
        code: "upload_interrupted".to_owned(),
        message: "the upload broke off before the whole file was there; upload it again".to_owned(),
    }
}

impl Drop for Storing {
    fn drop(&mut self) {
        let intake = self.intake.take();
        let Some(reservation) = self.reservation.take() else {
            return;
        };
        // Without a runtime the row stays until it counts as abandoned.
        let Ok(runtime) = tokio::runtime::Handle::try_current() else {
            return;
        };
        let cleaning = async move {
            if let Some(intake) = intake {
                intake.abort().await;
            }
            reservation.give_up(interrupted()).await;
        };
        drop(runtime.spawn(cleaning.in_current_span()));
    }
}

/// The place that is kept for a file.
struct Reservation {
    loras: Arc<dyn LoraRepo>,
    allowance: Allowance,
    actor: Actor,
    id: LoraId,
}

impl Reservation {
    /// Whether the whole file fits, whose size nobody need have told before.
    async fn check_quota(&self, file_size: u64) -> Result<(), UploadLoraError> {
        if self.allowance.quotas.lora_bytes.is_none() {
            return Ok(());
        }
        let recorded = self
            .loras
            .record_progress(&self.actor, self.id, file_size)
            .await?;
        if recorded != WriteOutcome::Done(()) {
            return Err(UploadLoraError::ReservationLost);
        }
        Ok(self.allowance.loras(&self.actor, 0).await?)
    }

    async fn give_up(self, failure: LoraFailure) {
        if let Err(error) = self.loras.mark_failed(&self.actor, self.id, failure).await {
            // It counts as abandoned after a while and is cleaned then.
            tracing::warn!(lora.id = %self.id, error = &error as &dyn std::error::Error, "a place kept for an upload was not given up");
        }
    }

    /// Nothing was wrong with it; it was only not needed.
    async fn withdraw(self) {
        if let Err(error) = self.loras.delete(&self.actor, self.id).await {
            // As above.
            tracing::warn!(lora.id = %self.id, error = &error as &dyn std::error::Error, "a place kept for an upload was not given back");
        }
    }
}
