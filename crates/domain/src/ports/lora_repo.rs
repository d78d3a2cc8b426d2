use std::collections::BTreeSet;

use async_trait::async_trait;

use crate::actor::Actor;
use crate::digest::Sha256Digest;
use crate::ids::{LoraId, RunId, UserId};
use crate::lora::{
    Lora, LoraFailure, LoraFilename, LoraFilter, LoraPath, LoraVersion, NewLora, ReceivedLora,
};
use crate::page::{Page, PageRequest};
use crate::ports::{BlobKey, RepoError, WriteOutcome};

/// A LoRA of the actor's, as a graph names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum LoraName {
    /// The latest bytes under a filename.
    Latest(LoraFilename),
    /// A certain version.
    Version(LoraFilename, LoraVersion),
    /// Whatever stands at a path on the backends.
    At(LoraPath),
}

/// What a path on the backends stands for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathContent {
    /// The path.
    pub path: LoraPath,
    /// The only bytes that it ever stood for.
    pub sha256: Sha256Digest,
    /// Whether some LoRA that is not gone still has them.
    pub is_alive: bool,
}

/// What an object of ours belongs to, as its key says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum BlobOwner {
    /// A LoRA's bytes; the row that has the key.
    Lora(BlobKey),
    /// A piece of an upload.
    Upload(LoraId),
    /// An input file's bytes; the row that has the key.
    Input(BlobKey),
    /// An output of a run.
    Run(UserId, RunId),
}

impl BlobOwner {
    /// Whom an object belongs to; `None` for one whose key is not of our making.
    pub fn of(key: &BlobKey) -> Option<Self> {
        let mut segments = key.as_str().split('/');
        let owner = segments.next()?.strip_prefix("user-")?;
        let owner: UserId = canonical(owner)?;
        let (kind, next) = (segments.next()?, segments.next()?);
        match (kind, segments.next()) {
            ("loras", _) => Some(Self::Lora(key.clone())),
            ("inputs", None) => Some(Self::Input(key.clone())),
            ("uploads", Some(_)) => canonical(next).map(Self::Upload),
            ("runs", Some(_)) => canonical(next).map(|run| Self::Run(owner, run)),
            _ => None,
        }
    }
}

/// An id in the one spelling that we write.
fn canonical<Id: std::str::FromStr + ToString>(text: &str) -> Option<Id> {
    let id: Id = text.parse().ok()?;
    (id.to_string() == text).then_some(id)
}

/// Keeps LoRAs.
///
/// An actor sees own LoRAs only. A LoRA that was deleted is gone for its owner
/// at once; its row stays, unseen, until [`LoraRepo::forget`].
///
/// The LoRAs that were ready under one filename are its versions, numbered from
/// 1 in the order in which they became ready; all but the latest are superseded.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LoraRepo: Send + Sync {
    /// Reserves a place for a LoRA whose bytes are on their way, under a blob
    /// key that no other row has.
    ///
    /// A failed LoRA of the same filename, and one whose bytes stopped coming
    /// long ago, MUST give way. One that [replaces](NewLora::replaces) stands
    /// beside the one that it replaces, if there is one, until it is ready.
    ///
    /// # Errors
    /// [`RepoError::Conflict`] if the actor has a LoRA of that filename that is
    /// not to be replaced.
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
    /// be given to other bytes, even after its LoRA was deleted. In the same
    /// transaction the version that was the latest is superseded.
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

    /// Looks up the actor's ready LoRAs of these names; those that are not there
    /// are left out.
    async fn find_ready(&self, actor: &Actor, names: Vec<LoraName>)
    -> Result<Vec<Lora>, RepoError>;

    /// Reads all versions of the filename that a LoRA has, the latest first;
    /// `None` if the LoRA is absent or not the actor's. Those whose bytes are
    /// still on their way, or never came, are none.
    async fn versions(&self, actor: &Actor, id: LoraId) -> Result<Option<Vec<Lora>>, RepoError>;

    /// Lists LoRAs, newest first.
    async fn list(
        &self,
        actor: &Actor,
        filter: LoraFilter,
        page: PageRequest,
    ) -> Result<Page<Lora>, RepoError>;

    /// Deletes a LoRA for its owner: nothing finds it any more; also one whose
    /// bytes are on their way. The latest version takes all earlier ones with
    /// it; an earlier one goes alone. Runs that were put into the queue before
    /// still may use them.
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

    /// The paths of all LoRAs that a run needs which is under way, or may be
    /// alive on a backend: no copy of them may be evicted.
    async fn paths_in_use(&self) -> Result<BTreeSet<LoraPath>, RepoError>;

    /// What these paths stand for; those that never stood for anything are left
    /// out.
    async fn contents_at(&self, paths: Vec<LoraPath>) -> Result<Vec<PathContent>, RepoError>;

    /// Says which of these still have a row.
    async fn known_owners(&self, owners: Vec<BlobOwner>) -> Result<BTreeSet<BlobOwner>, RepoError>;

    /// The name of this database, the same for ever: what it does not know in a
    /// blob store of another's name is not its business.
    async fn installation(&self) -> Result<uuid::Uuid, RepoError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "11111111-2222-4333-8444-55555555abcd";

    fn owner_of(key: String) -> Option<BlobOwner> {
        BlobOwner::of(&BlobKey::parse(key).unwrap())
    }

    #[test]
    fn a_key_says_whom_it_belongs_to() {
        let run = owner_of(format!("user-{ID}/runs/{ID}/9/x.png"));
        let piece = owner_of(format!("user-{ID}/uploads/{ID}/00-1"));
        let lora = owner_of(format!("user-{ID}/loras/x.safetensors"));
        let input = owner_of(format!("user-{ID}/inputs/{ID}"));

        assert_eq!(
            run,
            Some(BlobOwner::Run(ID.parse().unwrap(), ID.parse().unwrap()))
        );
        assert_eq!(piece, Some(BlobOwner::Upload(ID.parse().unwrap())));
        assert!(matches!(lora, Some(BlobOwner::Lora(_))));
        assert!(matches!(input, Some(BlobOwner::Input(_))));
    }

    #[test]
    fn other_keys_belong_to_nobody_we_know() {
        for key in [
            "backup/user-1/loras/x".to_owned(),
            format!("user-{}/loras/x", ID.to_uppercase()),
            format!("user-{ID}/other/x"),
            format!("user-{ID}/runs/{ID}"),
            format!("user-{ID}/uploads/x/1"),
            format!("user-{ID}/loras"),
            format!("user-{ID}/inputs/{ID}/x"),
        ] {
            assert_eq!(owner_of(key.clone()), None, "{key}");
        }
    }
}
