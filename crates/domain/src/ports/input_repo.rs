use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::actor::Actor;
use crate::ids::{InputId, UserId};
use crate::input::{Input, InputName};
use crate::page::{Page, PageRequest};
use crate::ports::RepoError;

/// Keeps the pictures that people upload for their graphs.
///
/// An actor sees own ones only, and none that is deleted.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait InputRepo: Send + Sync {
    /// Stores a picture of the actor's, whose bytes are in the blob store by
    /// now. If the actor has the same bytes under the same name already, MUST
    /// store nothing and answer that one.
    ///
    /// # Errors
    /// [`RepoError::Conflict`] if the id is taken.
    async fn add(&self, actor: &Actor, input: Input) -> Result<Input, RepoError>;

    /// Looks a picture up; `None` if it is absent or not the actor's.
    async fn get(&self, actor: &Actor, id: InputId) -> Result<Option<Input>, RepoError>;

    /// Lists pictures, newest first.
    async fn list(&self, actor: &Actor, page: PageRequest) -> Result<Page<Input>, RepoError>;

    /// Finds those of the actor's pictures that these names mean, each once.
    async fn find(&self, actor: &Actor, names: Vec<InputName>) -> Result<Vec<Input>, RepoError>;

    /// Deletes a picture for its owner; runs that wait for it still get it.
    /// `false` if it is absent or not the actor's.
    async fn delete(
        &self,
        actor: &Actor,
        id: InputId,
        at: DateTime<Utc>,
    ) -> Result<bool, RepoError>;

    /// Loads what a run of `owner`'s needs, deleted or not. Those that are
    /// missing are gone for good. For workers.
    async fn load_many(&self, owner: UserId, ids: Vec<InputId>) -> Result<Vec<Input>, RepoError>;

    /// Says which deleted pictures no unfinished run needs, at most `limit`,
    /// longest deleted first. For workers.
    async fn cleanable(&self, limit: u16) -> Result<Vec<Input>, RepoError>;

    /// Forgets a deleted picture whose bytes are gone. For workers.
    async fn forget(&self, id: InputId) -> Result<(), RepoError>;
}
