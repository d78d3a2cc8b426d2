use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::actor::Actor;
use crate::ids::LoraId;
use crate::lora::{LoraStatus, NewLora};
use crate::ports::{BlobKey, RepoError};

/// An upload that comes in pieces, and may pause for hours between two.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResumableUpload {
    /// The LoRA that it becomes; also the upload's own name.
    pub lora_id: LoraId,
    /// How many bytes it has in all.
    pub length: u64,
    /// How many are there: from the first on, without gaps.
    pub offset: u64,
    /// What its sender said about it at the beginning, as it was said: the
    /// header `Upload-Metadata` of tus 1.0.
    pub metadata: String,
    /// How long its next bytes are waited for.
    pub expires_at: DateTime<Utc>,
    /// Where the LoRA stands: `uploading` also while the whole is checked.
    pub status: LoraStatus,
}

impl ResumableUpload {
    /// Whether further bytes are still wanted at `now`.
    pub fn is_open(&self, now: DateTime<Utc>) -> bool {
        self.status == LoraStatus::Uploading
            && (self.offset == self.length || now < self.expires_at)
    }
}

/// Bytes of an upload that are in the blob store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UploadPiece {
    /// Where in the whole they begin.
    pub starts_at: u64,
    /// How many they are; at least one.
    pub size_bytes: u64,
    /// Where they are.
    pub blob_key: BlobKey,
}

/// What became of a piece.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendOutcome {
    /// It belongs to the upload now.
    Appended {
        /// How many bytes are there now.
        offset: u64,
        /// Whether they are all there: then the transfer into the LoRA's place
        /// was begun.
        is_complete: bool,
    },
    /// It does not begin where the upload ends: somebody else's piece was first.
    Elsewhere {
        /// How many bytes are there.
        offset: u64,
    },
    /// The upload has as many pieces as it may.
    TooManyPieces,
    /// The upload is over, or not the actor's.
    Gone,
}

/// An upload whose pieces nobody needs any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FinishedUpload {
    /// Which.
    pub lora_id: LoraId,
    /// What is to be deleted.
    pub pieces: Vec<BlobKey>,
}

/// Keeps uploads that come in pieces.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LoraUploads: Send + Sync {
    /// Reserves a place as [`LoraRepo::reserve`](crate::ports::LoraRepo::reserve)
    /// does, for an upload in pieces; `bytes_total` MUST be known. Its
    /// reservation holds until `expires_at`, and then as
    /// [`LoraUploads::append`] says.
    ///
    /// # Errors
    /// [`RepoError::Conflict`] if the actor has a LoRA of that filename and it is
    /// not to be replaced.
    async fn create(
        &self,
        actor: &Actor,
        new: NewLora,
        metadata: String,
        expires_at: DateTime<Utc>,
    ) -> Result<ResumableUpload, RepoError>;

    /// Looks an upload up, also one that is over and not yet cleaned away;
    /// `None` if it is absent or not the actor's.
    async fn get(&self, actor: &Actor, id: LoraId) -> Result<Option<ResumableUpload>, RepoError>;

    /// Reads the pieces of an upload, in the order of their bytes; none if it is
    /// absent or not the actor's.
    async fn pieces(&self, actor: &Actor, id: LoraId) -> Result<Vec<UploadPiece>, RepoError>;

    /// Adds a piece, if it begins where the upload ends; with the last one MUST
    /// begin the transfer. An upload has at most `max_pieces`.
    async fn append(
        &self,
        actor: &Actor,
        id: LoraId,
        piece: UploadPiece,
        max_pieces: u32,
        expires_at: DateTime<Utc>,
    ) -> Result<AppendOutcome, RepoError>;

    /// Says which uploads are over, with all their pieces, at most `limit`: the
    /// LoRA is ready, failed, deleted or gone. One that expired MUST become
    /// failed, with code `upload_expired`.
    async fn finished(&self, limit: u16) -> Result<Vec<FinishedUpload>, RepoError>;

    /// Forgets an upload whose pieces were deleted.
    async fn forget(&self, id: LoraId) -> Result<(), RepoError>;
}
