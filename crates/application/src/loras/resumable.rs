use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::{LoraId, UserId};
use atelier_domain::lora::{LoraFailure, LoraFilename, LoraSource, LoraStatus, NewLora};
use atelier_domain::ports::{
    AppendOutcome, BlobError, BlobKey, BlobStore, BlobWriter, Clock, Conflict, IdGen, LoraRepo,
    LoraUploads, RepoError, ResumableUpload, UploadPiece,
};
use atelier_domain::safetensors::{HeaderReader, SafetensorsError};
use atelier_domain::validation::Violation;
use bytes::Bytes;
use thiserror::Error;
use tokio::runtime::Handle;
use tracing::Instrument as _;

use super::UploadLoraError;
use super::details::LoraDetails;
use super::upload::{default_name, latest};
use crate::allowance::Allowance;
use crate::opaque::opaque_debug;

/// How much uploads in pieces may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// How many bytes a file may have.
    pub max_bytes: u64,
    /// How long the next bytes of an upload are waited for.
    pub expiry: Duration,
    /// After so many bytes of one request those that came are kept for good.
    pub piece_bytes: u64,
    /// How many pieces an upload may have.
    pub max_pieces: u32,
}

impl Default for UploadLimits {
    fn default() -> Self {
        Self {
            max_bytes: 16 * 1024 * 1024 * 1024,
            expiry: Duration::from_hours(24),
            piece_bytes: 64 * 1024 * 1024,
            max_pieces: 10_000,
        }
    }
}

/// An upload to be created.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewUpload {
    /// The name that workflows use.
    pub filename: String,
    /// How many bytes it has.
    pub length: u64,
    /// What the owner says of it.
    pub details: LoraDetails,
    /// Whether it takes the place of a LoRA of that filename.
    pub replaces: bool,
    /// What its sender said about it, as it was said.
    pub metadata: String,
}

/// Why an upload in pieces does not go on.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResumableError {
    /// There is no such upload, or it is not the actor's.
    #[error("there is no such upload")]
    NotFound,
    /// It is over: its time ran out, it failed, or it was deleted.
    #[error("the upload is over")]
    Gone,
    /// All its bytes are there.
    #[error("the upload is complete")]
    Complete,
    /// The bytes do not begin where the upload ends.
    #[error("the upload is at byte {offset}")]
    Elsewhere {
        /// Where it ends.
        offset: u64,
    },
    /// More bytes came than the upload has in all.
    #[error("the upload has {length} bytes in all")]
    TooLong {
        /// How many it has.
        length: u64,
    },
    /// It came in too many pieces.
    #[error("the upload came in more than {limit} pieces")]
    TooManyPieces {
        /// How many are allowed.
        limit: u32,
    },
    /// What is wrong with the file, or with what was said about it.
    #[error(transparent)]
    Upload(#[from] UploadLoraError),
}

impl From<RepoError> for ResumableError {
    fn from(error: RepoError) -> Self {
        Self::Upload(UploadLoraError::Repo(error))
    }
}

impl From<BlobError> for ResumableError {
    fn from(error: BlobError) -> Self {
        Self::Upload(UploadLoraError::Blob(error))
    }
}

/// Takes LoRAs in over bad lines: in any number of requests, with hours between
/// them, whatever restarts meanwhile.
///
/// Each request's bytes become objects of their own; when all are there, a
/// transfer checks the whole and puts it into its place.
#[derive(Clone)]
pub struct ResumableUploads {
    /// Where the uploads are kept.
    pub uploads: Arc<dyn LoraUploads>,
    /// Where LoRAs are looked up.
    pub loras: Arc<dyn LoraRepo>,
    /// Where the bytes go.
    pub blobs: Arc<dyn BlobStore>,
    /// Tells when.
    pub clock: Arc<dyn Clock>,
    /// Names things.
    pub ids: Arc<dyn IdGen>,
    /// How much uploads may take.
    pub limits: UploadLimits,
    /// What one person may take up.
    pub allowance: Allowance,
    /// What goes on after its request was given up is spawned here.
    pub io: Handle,
}

opaque_debug!(ResumableUploads);

impl ResumableUploads {
    /// Keeps a place for an upload.
    ///
    /// # Errors
    /// [`UploadLoraError::Invalid`] with pointers `/filename`, `/length`,
    /// `/name`, `/description`, `/tags/0`; [`UploadLoraError::TooLarge`];
    /// [`UploadLoraError::FilenameTaken`]; [`UploadLoraError::Quota`].
    #[tracing::instrument(skip_all, fields(user.id = %actor.user_id()))]
    pub async fn create(
        &self,
        actor: &Actor,
        upload: NewUpload,
    ) -> Result<ResumableUpload, UploadLoraError> {
        let filename = LoraFilename::parse(&upload.filename).map_err(|fault| {
            UploadLoraError::Invalid(vec![Violation::new("/filename", fault.to_string())])
        })?;
        let details = upload.details.check()?;
        if upload.length > self.limits.max_bytes {
            return Err(UploadLoraError::TooLarge {
                limit_bytes: self.limits.max_bytes,
            });
        }
        if upload.length == 0 {
            let fault = Violation::new("/length", "must be the file's size in bytes, not 0");
            return Err(UploadLoraError::Invalid(vec![fault]));
        }
        let name = match details.name {
            Some(name) => name,
            None => default_name(&filename, "/filename")?,
        };
        let new = NewLora {
            id: LoraId::new(self.ids.new_id()),
            name,
            filename: filename.clone(),
            description: details.description,
            tags: details.tags,
            source: LoraSource::Upload,
            bytes_total: Some(upload.length),
            replaces: upload.replaces,
            created_at: self.clock.now(),
        };
        let created = self
            .uploads
            .create(actor, new, upload.metadata, self.expiry())
            .await;
        match created {
            Err(RepoError::Conflict(Conflict::LoraFilename)) => {
                let existing = latest(self.loras.as_ref(), actor, filename).await?;
                Err(UploadLoraError::FilenameTaken {
                    existing: existing.map(|lora| lora.id),
                })
            }
            created => {
                let created = created?;
                self.check_quota(actor, created.lora_id).await?;
                Ok(created)
            }
        }
    }

    /// The upload counts by now, so that several at once do not pass the quota
    /// together; one that does is taken back.
    async fn check_quota(&self, actor: &Actor, id: LoraId) -> Result<(), UploadLoraError> {
        let Err(error) = self.allowance.loras(actor, 0).await else {
            return Ok(());
        };
        if let Err(error) = self.terminate(actor, id).await {
            // It expires after a while.
            tracing::warn!(lora.id = %id, error = &error as &dyn std::error::Error, "an upload beyond its owner's quota was not taken back");
        }
        Err(error.into())
    }

    /// Looks an upload up.
    ///
    /// # Errors
    /// [`ResumableError::NotFound`]; [`ResumableError::Gone`] for one that wants
    /// no further bytes and did not become a LoRA.
    pub async fn get(&self, actor: &Actor, id: LoraId) -> Result<ResumableUpload, ResumableError> {
        let upload = self.uploads.get(actor, id).await?;
        let upload = upload.ok_or(ResumableError::NotFound)?;
        if upload.status == LoraStatus::Ready || upload.is_open(self.clock.now()) {
            Ok(upload)
        } else {
            Err(ResumableError::Gone)
        }
    }

    /// Begins to add bytes to an upload. `declared_bytes` is how many the sender
    /// says will come now, where that is known.
    ///
    /// # Errors
    /// [`ResumableError::Elsewhere`] unless the upload ends at `offset`.
    #[tracing::instrument(skip_all, fields(user.id = %actor.user_id(), lora.id = %id))]
    pub async fn append(
        &self,
        actor: Actor,
        id: LoraId,
        offset: u64,
        declared_bytes: Option<u64>,
    ) -> Result<UploadAppending, ResumableError> {
        let upload = self.get(&actor, id).await?;
        if upload.offset != offset {
            return Err(ResumableError::Elsewhere {
                offset: upload.offset,
            });
        }
        if upload.offset == upload.length {
            return Err(ResumableError::Complete);
        }
        let room = upload.length - upload.offset;
        if declared_bytes.is_some_and(|bytes| bytes > room) {
            return Err(ResumableError::TooLong {
                length: upload.length,
            });
        }
        Ok(UploadAppending {
            uploads: self.clone(),
            actor,
            id,
            length: upload.length,
            offset,
            piece: None,
            // Only from its beginning can a file be judged as it comes.
            header: (offset == 0).then(HeaderReader::new),
        })
    }

    /// Gives an upload up.
    ///
    /// # Errors
    /// [`ResumableError::NotFound`]; [`ResumableError::Complete`] once all bytes
    /// are there: then it is a LoRA, and deleted as one.
    pub async fn terminate(&self, actor: &Actor, id: LoraId) -> Result<(), ResumableError> {
        let upload = self.get(actor, id).await?;
        if upload.offset == upload.length {
            return Err(ResumableError::Complete);
        }
        // A second one who does the same came first.
        let _gone = self.loras.delete(actor, id).await?;
        Ok(())
    }

    fn expiry(&self) -> chrono::DateTime<chrono::Utc> {
        self.clock.now() + self.limits.expiry
    }
}

/// Bytes being added to an upload.
///
/// Dropped, it keeps what came, as [`UploadAppending::finish`] does.
pub struct UploadAppending {
    uploads: ResumableUploads,
    actor: Actor,
    id: LoraId,
    length: u64,
    /// Where the upload ends, as far as it is kept for good.
    offset: u64,
    piece: Option<Piece>,
    header: Option<HeaderReader>,
}

opaque_debug!(UploadAppending);

/// Bytes that are on their way into an object.
struct Piece {
    key: BlobKey,
    writer: Box<dyn BlobWriter>,
    bytes: u64,
    /// How many more there may be: a write of so many was given up half-way.
    unsure_bytes: u64,
}

impl UploadAppending {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// A file that is no LoRA is refused, and the upload given up, as soon as its
    /// first request shows it. After any error nothing more can be written.
    pub async fn write(&mut self, bytes: Bytes) -> Result<(), ResumableError> {
        if bytes.is_empty() {
            return Ok(());
        }
        let piece_bytes = self.piece.as_ref().map_or(0, |piece| piece.bytes);
        let more = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if more > self.length - self.offset - piece_bytes {
            return Err(ResumableError::TooLong {
                length: self.length,
            });
        }
        if let Err(fault) = self.judge(&bytes) {
            return Err(self.refuse(fault).await);
        }
        let piece = match &mut self.piece {
            Some(piece) => piece,
            none => {
                let key = key(self.actor.user_id(), self.id, self.offset, &self.uploads)?;
                let writer = self.uploads.blobs.writer(&key).await?;
                none.insert(Piece {
                    key,
                    writer,
                    bytes: 0,
                    unsure_bytes: 0,
                })
            }
        };
        piece.unsure_bytes = more;
        if let Err(error) = piece.writer.write(bytes).await {
            // What is in it is not known any more.
            if let Some(broken) = self.piece.take() {
                broken.abort().await;
            }
            return Err(error.into());
        }
        piece.unsure_bytes = 0;
        piece.bytes += more;
        if piece.bytes >= self.uploads.limits.piece_bytes {
            self.keep().await?;
        }
        Ok(())
    }

    /// Keeps what came for good, and says where the upload ends now.
    ///
    /// # Errors
    /// [`ResumableError::Elsewhere`] if another request was first.
    pub async fn finish(mut self) -> Result<u64, ResumableError> {
        self.keep().await?;
        Ok(self.offset)
    }

    fn judge(&mut self, bytes: &[u8]) -> Result<(), SafetensorsError> {
        let Some(header) = &mut self.header else {
            return Ok(());
        };
        header.feed(bytes)?;
        let Some(complete) = header.header() else {
            return Ok(());
        };
        let expected = complete.expected_file_size();
        self.header = None;
        let actual = self.length;
        match expected.cmp(&actual) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err(SafetensorsError::Appended { expected, actual }),
            std::cmp::Ordering::Greater => Err(SafetensorsError::Truncated { expected, actual }),
        }
    }

    async fn refuse(&mut self, fault: SafetensorsError) -> ResumableError {
        if let Some(piece) = self.piece.take() {
            piece.abort().await;
        }
        let error = UploadLoraError::from(fault);
        let failure: LoraFailure = error.failure();
        let loras = &self.uploads.loras;
        match loras.mark_failed(&self.actor, self.id, failure).await {
            Ok(_) => ResumableError::Upload(error),
            Err(error) => error.into(),
        }
    }

    async fn keep(&mut self) -> Result<(), ResumableError> {
        let Some(piece) = self.piece.take() else {
            return Ok(());
        };
        let (uploads, actor) = (self.uploads.clone(), self.actor.clone());
        let (id, offset) = (self.id, self.offset);
        // On its own: it is kept also if its request is given up meanwhile.
        let keeping = async move { keep(&uploads, &actor, id, offset, piece).await };
        let kept = self.uploads.io.spawn(keeping.in_current_span()).await;
        self.offset = kept.map_err(|error| BlobError::Unavailable(error.into()))??;
        Ok(())
    }
}

impl Drop for UploadAppending {
    fn drop(&mut self) {
        let Some(piece) = self.piece.take() else {
            return;
        };
        let (uploads, actor) = (self.uploads.clone(), self.actor.clone());
        let (id, offset) = (self.id, self.offset);
        let io = uploads.io.clone();
        let keeping = async move {
            if let Err(error) = keep(&uploads, &actor, id, offset, piece).await {
                tracing::info!(
                    error = &error as &dyn std::error::Error,
                    "the last bytes of a broken-off request were not kept"
                );
            }
        };
        drop(io.spawn(keeping.in_current_span()));
    }
}

impl Piece {
    async fn abort(self) {
        if let Err(error) = self.writer.abort().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a broken-off object was not thrown away; the store will expire it"
            );
        }
    }
}

/// The object comes first: what the database knows of is there.
async fn keep(
    uploads: &ResumableUploads,
    actor: &Actor,
    id: LoraId,
    starts_at: u64,
    piece: Piece,
) -> Result<u64, ResumableError> {
    let Piece {
        key,
        writer,
        bytes,
        unsure_bytes,
    } = piece;
    let size_bytes = writer.finish().await?.size_bytes;
    if !(bytes..=bytes + unsure_bytes).contains(&size_bytes) {
        let text = format!("stored {size_bytes} of {bytes} bytes");
        return Err(BlobError::Backend(text.into()).into());
    }
    let piece = UploadPiece {
        starts_at,
        size_bytes,
        blob_key: key.clone(),
    };
    let limit = uploads.limits.max_pieces;
    let appended = uploads
        .uploads
        .append(actor, id, piece, limit, uploads.expiry())
        .await;
    let refused = match appended {
        Ok(AppendOutcome::Appended { offset, .. }) => return Ok(offset),
        Ok(AppendOutcome::Elsewhere { offset }) => ResumableError::Elsewhere { offset },
        Ok(AppendOutcome::TooManyPieces) => ResumableError::TooManyPieces { limit },
        Ok(AppendOutcome::Gone) => ResumableError::Gone,
        // It may have been appended all the same: the object stays, and is swept
        // if nothing refers to it.
        Err(error) => return Err(error.into()),
    };
    if let Err(error) = uploads.blobs.delete(&key).await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "bytes that nobody wants were not deleted; the janitor will"
        );
    }
    Err(refused)
}

/// A key that no other piece has.
fn key(
    owner: UserId,
    id: LoraId,
    starts_at: u64,
    uploads: &ResumableUploads,
) -> Result<BlobKey, ResumableError> {
    let unique = uploads.ids.new_id();
    BlobKey::parse(format!(
        "user-{owner}/uploads/{id}/{starts_at:020}-{unique}"
    ))
    .map_err(|error| BlobError::Backend(Box::new(error)).into())
}
