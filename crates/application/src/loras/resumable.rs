use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{LoraFilename, LoraSource, LoraStatus, NewLora};
use atelier_domain::ports::{
    BlobError, BlobStore, Clock, Conflict, IdGen, LoraRepo, LoraUploads, RepoError, ResumableUpload,
};
use atelier_domain::safetensors::HeaderReader;
use atelier_domain::validation::Violation;
use thiserror::Error;
use tokio::runtime::Handle;

use super::UploadLoraError;
use super::appending::UploadAppending;
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

    pub(super) fn expiry(&self) -> chrono::DateTime<chrono::Utc> {
        self.clock.now() + self.limits.expiry
    }
}
