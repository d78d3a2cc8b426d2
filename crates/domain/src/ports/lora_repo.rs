use async_trait::async_trait;

use crate::actor::Actor;
use crate::ids::LoraId;
use crate::lora::{Lora, LoraFailure, LoraFilename, LoraFilter, NewLora, ReceivedLora};
use crate::page::{Page, PageRequest};
use crate::ports::{RepoError, WriteOutcome};

/// Keeps LoRAs.
///
/// An actor sees own LoRAs only. A LoRA that was deleted is gone for its owner
/// at once; its row stays, unseen, until [`LoraRepo::forget`].
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LoraRepo: Send + Sync {
    /// Reserves a place for a LoRA whose bytes are on their way, under a blob
    /// key that no other row has.
    ///
    /// A failed LoRA of the same filename, and one whose bytes stopped coming
    /// long ago, MUST give way.
    ///
    /// # Errors
    /// [`RepoError::Conflict`] if the actor has a LoRA of that filename.
    async fn reserve(&self, actor: &Actor, new: NewLora) -> Result<Lora, RepoError>;

    /// Records how many bytes of a reserved LoRA are there; this also keeps
    /// the reservation alive.
    async fn record_progress(
        &self,
        actor: &Actor,
        id: LoraId,
        bytes_done: u64,
    ) -> Result<WriteOutcome<()>, RepoError>;

    /// Makes a reserved LoRA ready.
    ///
    /// The first bytes that were ever stored under a filename get the path
    /// `user-{uuid}/{filename}`, others a path of their own: a path MUST never
    /// be given to other bytes, even after its LoRA was deleted.
    /// A LoRA that is not reserved any more is [`WriteOutcome::NotFound`].
    async fn mark_ready(
        &self,
        actor: &Actor,
        id: LoraId,
        received: ReceivedLora,
    ) -> Result<WriteOutcome<Lora>, RepoError>;

    /// Gives a reserved LoRA up. Its object, if there is one, goes as after
    /// [`LoraRepo::delete`]; the row stays for its owner to read.
    async fn mark_failed(
        &self,
        actor: &Actor,
        id: LoraId,
        failure: LoraFailure,
    ) -> Result<WriteOutcome<Lora>, RepoError>;

    /// Looks a LoRA up; `None` if it is absent or not the actor's.
    async fn get(&self, actor: &Actor, id: LoraId) -> Result<Option<Lora>, RepoError>;

    /// Looks up the actor's ready LoRAs of these filenames; those that are
    /// not there are left out.
    async fn find_ready(
        &self,
        actor: &Actor,
        filenames: Vec<LoraFilename>,
    ) -> Result<Vec<Lora>, RepoError>;

    /// Lists LoRAs, newest first.
    async fn list(
        &self,
        actor: &Actor,
        filter: LoraFilter,
        page: PageRequest,
    ) -> Result<Page<Lora>, RepoError>;

    /// Deletes a LoRA for its owner: nothing finds it any more. Runs that
    /// were put into the queue before still may use it.
    async fn delete(&self, actor: &Actor, id: LoraId) -> Result<WriteOutcome<()>, RepoError>;

    /// Loads LoRAs for a worker, deleted ones that are not forgotten
    /// included, whoever's they are; those that are not there are left out.
    async fn load_for_sync(&self, ids: Vec<LoraId>) -> Result<Vec<Lora>, RepoError>;

    /// Says which LoRAs are to be cleaned away, at most `limit`: deleted,
    /// failed or abandoned, with an object that may still be there, and needed
    /// by no run that is not over.
    async fn due_for_cleaning(&self, limit: u16) -> Result<Vec<Lora>, RepoError>;

    /// Forgets a LoRA that was cleaned away: a deleted one loses its row, a
    /// failed one only its object's key.
    async fn forget(&self, id: LoraId) -> Result<(), RepoError>;
}
