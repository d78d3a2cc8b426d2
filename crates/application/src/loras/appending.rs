use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::LoraFailure;
use atelier_domain::ports::{AppendOutcome, BlobError, BlobKey, BlobWriter, UploadPiece};
use atelier_domain::safetensors::{HeaderReader, SafetensorsError};
use bytes::Bytes;
use tracing::Instrument as _;

use super::UploadLoraError;
use super::resumable::{ResumableError, ResumableUploads};
use crate::opaque::opaque_debug;

/// Bytes being added to an upload.
///
/// Dropped, it keeps what came, as [`UploadAppending::finish`] does.
pub struct UploadAppending {
    pub(super) uploads: ResumableUploads,
    pub(super) actor: Actor,
    pub(super) id: LoraId,
    pub(super) length: u64,
    /// Where the upload ends, as far as it is kept for good.
    pub(super) offset: u64,
    pub(super) piece: Option<Piece>,
    pub(super) header: Option<HeaderReader>,
}

opaque_debug!(UploadAppending);

/// Bytes that are on their way into an object.
pub(super) struct Piece {
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
                let (owner, unique) = (self.actor.user_id(), self.uploads.ids.new_id());
                let key = BlobKey::of_upload_piece(owner, self.id, self.offset, unique);
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
