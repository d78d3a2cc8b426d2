use async_trait::async_trait;

use crate::actor::Actor;
use crate::ids::LoraId;
use crate::lora::{Lora, LoraPath};
use crate::ports::{RepoError, WriteOutcome};

/// Whether a backend has a LoRA on its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CopyState {
    /// It has it, as its worker last saw.
    Present,
    /// It was asked to get it, or is getting it.
    Requested,
    /// It has not, and was not asked.
    Absent,
}

impl CopyState {
    /// Every state.
    pub const ALL: [Self; 3] = [Self::Present, Self::Requested, Self::Absent];

    /// The word that the API uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Requested => "requested",
            Self::Absent => "absent",
        }
    }
}

/// A LoRA on a backend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraCopy {
    /// The backend.
    pub backend: String,
    /// The LoRA.
    pub lora_id: LoraId,
    /// Whether it is there.
    pub state: CopyState,
}

/// Knows which LoRAs are on which backends' disks, as the workers tell it, and
/// has them brought there before a run needs them.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LoraCopies: Send + Sync {
    /// Says of each of the actor's own LoRAs among these, and each backend that
    /// a worker serves at the moment, whether it is there.
    async fn states(&self, actor: &Actor, loras: Vec<LoraId>) -> Result<Vec<LoraCopy>, RepoError>;

    /// Asks that every backend that a worker serves at the moment gets a LoRA,
    /// unless it has it, and wakes nobody: workers look for requests by
    /// themselves. Says how it stands then.
    ///
    /// A LoRA that is not ready is [`WriteOutcome::Stale`].
    async fn request(
        &self,
        actor: &Actor,
        lora: LoraId,
    ) -> Result<WriteOutcome<Vec<LoraCopy>>, RepoError>;

    /// Takes the oldest requests for a backend, at most `limit`. Each is given
    /// out once, and stands as requested until the copy is told or ten minutes
    /// are over: one that is lost is a copy that comes with the first run.
    async fn take_requests(&self, backend: &str, limit: u16) -> Result<Vec<Lora>, RepoError>;

    /// Records that what stood at these paths is on a backend's disk no more.
    async fn tell_gone(&self, backend: &str, paths: Vec<LoraPath>) -> Result<(), RepoError>;
}
