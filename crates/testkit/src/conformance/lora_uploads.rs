//! What every [`LoraUploads`] must do.

mod endings;
mod pieces;

use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, NewLora};
use atelier_domain::ports::{
    AppendOutcome, BlobKey, FinishedUpload, LoraRepo, LoraTransfers, LoraUploads, ResumableUpload,
    RunSignals, UploadPiece,
};
use chrono::{DateTime, Utc};

pub use endings::*;
pub use pieces::*;

use super::KeepAlive;
use crate::build::{EPOCH, a_new_lora, a_piece, a_transfer_claim};

/// A store under test. It must be this harness's alone: what is over is looked
/// for among everybody's uploads.
pub struct Harness {
    /// The uploads under test.
    pub uploads: Arc<dyn LoraUploads>,
    /// The transfers in the same store.
    pub transfers: Arc<dyn LoraTransfers>,
    /// The LoRAs in the same store.
    pub loras: Arc<dyn LoraRepo>,
    /// Its signals.
    pub signals: Arc<dyn RunSignals>,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

/// A time that no test sees.
fn far_off() -> DateTime<Utc> {
    EPOCH + chrono::TimeDelta::days(36_500)
}

/// An upload of so many bytes.
fn of_length(filename: &str, length: u64) -> NewLora {
    NewLora {
        bytes_total: Some(length),
        ..a_new_lora(filename)
    }
}

const MAX_PIECES: u32 = 1_000;

impl Harness {
    async fn created(&self, owner: &Actor, filename: &str, length: u64) -> LoraId {
        self.created_until(owner, filename, length, far_off()).await
    }

    async fn created_until(
        &self,
        owner: &Actor,
        filename: &str,
        length: u64,
        expires_at: DateTime<Utc>,
    ) -> LoraId {
        let new = of_length(filename, length);
        let created = self
            .uploads
            .create(owner, new, String::new(), expires_at)
            .await;
        created.unwrap().lora_id
    }

    async fn append(&self, owner: &Actor, id: LoraId, piece: UploadPiece) -> AppendOutcome {
        let appended = self
            .uploads
            .append(owner, id, piece, MAX_PIECES, far_off())
            .await;
        appended.unwrap()
    }

    /// An upload of two pieces, whole.
    async fn whole(&self, owner: &Actor, filename: &str) -> (LoraId, Vec<UploadPiece>) {
        let id = self.created(owner, filename, 10).await;
        let pieces = vec![a_piece(owner, id, 0, 4), a_piece(owner, id, 4, 6)];
        for piece in &pieces {
            self.append(owner, id, piece.clone()).await;
        }
        (id, pieces)
    }

    async fn get(&self, owner: &Actor, id: LoraId) -> Option<ResumableUpload> {
        self.uploads.get(owner, id).await.unwrap()
    }

    async fn offset_of(&self, owner: &Actor, id: LoraId) -> u64 {
        self.get(owner, id).await.unwrap().offset
    }

    async fn lora(&self, owner: &Actor, id: LoraId) -> Option<Lora> {
        self.loras.get(owner, id).await.unwrap()
    }

    async fn finished(&self) -> Vec<FinishedUpload> {
        let mut finished = self.uploads.finished(u16::MAX).await.unwrap();
        finished.sort_by_key(|upload| upload.lora_id);
        finished
    }

    async fn is_finished(&self, id: LoraId) -> bool {
        self.finished()
            .await
            .iter()
            .any(|upload| upload.lora_id == id)
    }

    async fn nothing_waits(&self) -> bool {
        let claimed = self.transfers.claim(a_transfer_claim()).await;
        claimed.unwrap().is_none()
    }
}

fn keys_of(pieces: &[UploadPiece]) -> Vec<BlobKey> {
    pieces.iter().map(|piece| piece.blob_key.clone()).collect()
}

/// Tests a `LoraUploads`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! lora_uploads_conformance {
    ($harness:expr) => {
        $crate::__cases! { lora_uploads in lora_uploads_conformance, $harness;
            a_created_upload_is_read_back,
            an_upload_reserves_its_filename,
            pieces_are_appended_without_gaps,
            the_last_piece_begins_the_transfer,
            of_two_pieces_at_once_one_is_appended,
            a_piece_that_does_not_fit_is_refused,
            an_upload_has_so_many_pieces_and_no_more,
            another_tenant_reads_and_appends_nothing,
            an_expired_upload_fails,
            an_expired_upload_gives_way,
            a_deleted_upload_is_over,
            forgetting_spares_uploads_that_go_on,
            finished_uploads_come_at_most_so_many_at_once,
        }
    };
}
