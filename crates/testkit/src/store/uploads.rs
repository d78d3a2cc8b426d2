use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::{LoraId, UserId};
use atelier_domain::lora::{LoraFailure, LoraStatus, NewLora};
use atelier_domain::ports::{
    AppendOutcome, FinishedUpload, LoraUploads, RepoError, ResumableUpload, UploadPiece,
};
use chrono::{DateTime, Utc};

use super::lora_row::LoraRow;
use super::transfers::TransferRow;
use super::{FakeStore, State};

/// The uploads in pieces of a [`FakeStore`].
#[derive(Clone, Debug)]
pub struct FakeLoraUploads(pub(super) FakeStore);

/// An upload as the store keeps it: it may outlive its LoRA.
pub(super) struct UploadRow {
    owner: UserId,
    length: u64,
    offset: u64,
    metadata: String,
    pub(super) pieces: Vec<UploadPiece>,
    created_at: DateTime<Utc>,
}

impl State {
    fn upload(&self, actor: &Actor, id: LoraId) -> Option<(&UploadRow, &LoraRow)> {
        let row = self
            .uploads
            .get(&id)
            .filter(|row| row.owner == actor.user_id())?;
        let lora = self.loras.get(&id).filter(|lora| lora.is_of(actor))?;
        Some((row, lora))
    }

    /// Whether an upload in pieces may still become a LoRA.
    fn is_open(&self, id: LoraId) -> bool {
        self.loras.get(&id).is_some_and(LoraRow::is_reserved)
    }
}

#[async_trait]
impl LoraUploads for FakeLoraUploads {
    async fn create(
        &self,
        actor: &Actor,
        new: NewLora,
        metadata: String,
        expires_at: DateTime<Utc>,
    ) -> Result<ResumableUpload, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let Some(length) = new.bytes_total else {
            return Err(RepoError::Backend(
                "an upload in pieces needs to know its length".into(),
            ));
        };
        let lora = state.reserve(actor, new, expires_at, now)?;
        let row = UploadRow {
            owner: lora.user_id,
            length,
            offset: 0,
            metadata: metadata.clone(),
            pieces: Vec::new(),
            created_at: now,
        };
        state.uploads.insert(lora.id, row);
        Ok(ResumableUpload {
            lora_id: lora.id,
            length,
            offset: 0,
            metadata,
            expires_at,
            status: lora.status,
        })
    }

    async fn get(&self, actor: &Actor, id: LoraId) -> Result<Option<ResumableUpload>, RepoError> {
        let state = self.0.open()?;
        Ok(state
            .upload(actor, id)
            .map(|(upload, lora)| ResumableUpload {
                lora_id: id,
                length: upload.length,
                offset: upload.offset,
                metadata: upload.metadata.clone(),
                expires_at: lora.expires_at,
                status: lora.lora.status,
            }))
    }

    async fn pieces(&self, actor: &Actor, id: LoraId) -> Result<Vec<UploadPiece>, RepoError> {
        let state = self.0.open()?;
        Ok(state
            .upload(actor, id)
            .map_or_else(Vec::new, |(upload, _)| upload.pieces.clone()))
    }

    async fn append(
        &self,
        actor: &Actor,
        id: LoraId,
        piece: UploadPiece,
        max_pieces: u32,
        expires_at: DateTime<Utc>,
    ) -> Result<AppendOutcome, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let open = state
            .upload(actor, id)
            .is_some_and(|(_, lora)| lora.lora.status == LoraStatus::Uploading);
        let Some(upload) = state.uploads.get_mut(&id).filter(|_| open) else {
            return Ok(AppendOutcome::Gone);
        };
        if piece.starts_at != upload.offset {
            return Ok(AppendOutcome::Elsewhere {
                offset: upload.offset,
            });
        }
        if upload.pieces.len() as u64 >= u64::from(max_pieces) {
            return Ok(AppendOutcome::TooManyPieces);
        }
        let offset = upload.offset.saturating_add(piece.size_bytes);
        if piece.size_bytes == 0 || offset > upload.length {
            return Err(RepoError::Backend(
                "a piece is empty, or goes beyond the end of its upload".into(),
            ));
        }
        upload.offset = offset;
        upload.pieces.push(piece);
        let is_complete = offset == upload.length;
        let owner = upload.owner;
        if let Some(row) = state.reserved(actor, id) {
            row.lora.bytes_done = offset;
            row.expires_at = expires_at;
        }
        if is_complete {
            state.begin_transfer(id, TransferRow::of_pieces(owner, now));
        }
        Ok(AppendOutcome::Appended {
            offset,
            is_complete,
        })
    }

    async fn finished(&self, limit: u16) -> Result<Vec<FinishedUpload>, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let expired: Vec<LoraId> = state
            .uploads
            .keys()
            .filter(|id| {
                state
                    .loras
                    .get(id)
                    .is_some_and(|row| state.is_abandoned(row, now))
            })
            .copied()
            .collect();
        for id in expired {
            if let Some(row) = state.loras.get_mut(&id) {
                row.fail(LoraFailure {
                    code: "upload_expired".to_owned(),
                    message: "The upload was not continued in time; send the file again."
                        .to_owned(),
                });
            }
        }
        let mut over: Vec<_> = state
            .uploads
            .iter()
            .filter(|(id, _)| !state.is_open(**id))
            .map(|(id, upload)| (upload.created_at, *id))
            .collect();
        over.sort_unstable();
        over.truncate(usize::from(limit));
        Ok(over
            .into_iter()
            .filter_map(|(_, id)| {
                let upload = state.uploads.get(&id)?;
                Some(FinishedUpload {
                    lora_id: id,
                    pieces: upload
                        .pieces
                        .iter()
                        .map(|piece| piece.blob_key.clone())
                        .collect(),
                })
            })
            .collect())
    }

    async fn forget(&self, id: LoraId) -> Result<(), RepoError> {
        let mut state = self.0.open()?;
        if !state.is_open(id) {
            state.uploads.remove(&id);
        }
        Ok(())
    }
}
