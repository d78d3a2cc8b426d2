use std::time::Duration;

use async_trait::async_trait;

use crate::actor::Actor;
use crate::idempotency::{EarlierRequest, IdempotentRequest, StoredAnswer};
use crate::ids::{ClaimToken, LoraId};
use crate::lora::{Lora, LoraFailure, NewLora, ReceivedLora};
use crate::ports::{RemoteFile, RepoError, UploadPiece};

/// A LoRA that is to be brought from somewhere else.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewImport {
    /// The place to reserve for it.
    pub lora: NewLora,
    /// Where its bytes lie.
    pub file: RemoteFile,
    /// Set if the credential for it is in this process alone: the transfer is
    /// claimed from its beginning, and nobody else can take it up.
    pub held: Option<TransferClaim>,
}

/// Who has a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransferClaim {
    /// Names the claim.
    pub token: ClaimToken,
    /// Names the process, for people who look at the table.
    pub worker: String,
    /// How long the claim holds without a sign of life.
    pub lease: Duration,
}

/// Under what conditions an import is begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImportTerms {
    /// How many unfinished imports one person may have.
    pub max_unfinished: u32,
    /// The request that is carried out once, and its answer.
    pub idempotency: Option<(IdempotentRequest, StoredAnswer)>,
}

/// What became of an import that was to be begun.
#[derive(Clone, Debug, PartialEq)]
pub enum ImportOutcome {
    /// It waits, or is under way if it is held.
    Begun(Box<Lora>),
    /// Nothing was written: the request came before.
    Earlier(EarlierRequest),
    /// Nothing was written: the person has as many as they may.
    TooMany,
}

/// Where the bytes of a transfer are.
#[derive(Clone, Debug, PartialEq)]
pub enum TransferWork {
    /// Somewhere else.
    Remote(RemoteFile),
    /// In the blob store, in pieces that were uploaded; in the order of their
    /// bytes, without gaps.
    Pieces(Vec<UploadPiece>),
}

/// A transfer that a worker has under a claim.
#[derive(Clone, Debug, PartialEq)]
pub struct ClaimedTransfer {
    /// The claim: every write carries it.
    pub token: ClaimToken,
    /// What the bytes are for, as reserved.
    pub lora: Lora,
    /// Where the bytes are.
    pub work: TransferWork,
    /// Which attempt this is, from 1.
    pub attempt: u32,
}

/// Brings the bytes of LoRAs to where they belong, without their owners: from
/// other places, and out of the pieces of resumable uploads.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LoraTransfers: Send + Sync {
    /// Says what an earlier request under the same key left, before anything is
    /// looked at.
    async fn earlier_request(
        &self,
        actor: &Actor,
        request: &IdempotentRequest,
    ) -> Result<Option<EarlierRequest>, RepoError>;

    /// Reserves a place as [`LoraRepo::reserve`](crate::ports::LoraRepo::reserve)
    /// does, and MUST write the transfer and the answer to its idempotent
    /// request together with it.
    ///
    /// # Errors
    /// [`RepoError::Conflict`] if the actor has a LoRA of that filename and it is
    /// not to be replaced.
    async fn begin(
        &self,
        actor: &Actor,
        new: NewImport,
        terms: ImportTerms,
    ) -> Result<ImportOutcome, RepoError>;

    /// Takes the transfer that has waited longest among those that may be taken
    /// up: nobody has it or its lease ran out, and its time has come. `None` if
    /// there is none. No transfer is ever taken by two at once.
    ///
    /// A held one whose lease ran out MUST fail instead, with code
    /// `credential_gone`: its credential went with its process.
    async fn claim(&self, claim: TransferClaim) -> Result<Option<ClaimedTransfer>, RepoError>;

    /// Records how far a transfer is, and makes its claim hold for another
    /// `lease`. `false` if the claim is lost: another has it, or the owner
    /// deleted the LoRA.
    async fn report(
        &self,
        lora: LoraId,
        token: ClaimToken,
        bytes_done: u64,
        bytes_total: Option<u64>,
        lease: Duration,
    ) -> Result<bool, RepoError>;

    /// Makes the LoRA ready, as
    /// [`LoraRepo::mark_ready`](crate::ports::LoraRepo::mark_ready) does, and
    /// ends the transfer. `None` if the claim is lost.
    async fn complete(
        &self,
        lora: LoraId,
        token: ClaimToken,
        received: ReceivedLora,
    ) -> Result<Option<Lora>, RepoError>;

    /// Gives the LoRA up, as
    /// [`LoraRepo::mark_failed`](crate::ports::LoraRepo::mark_failed) does, and
    /// ends the transfer; nothing happens if the claim is lost.
    async fn fail(
        &self,
        lora: LoraId,
        token: ClaimToken,
        failure: LoraFailure,
    ) -> Result<(), RepoError>;

    /// Gives a transfer back, to be taken up again after a while; a held one
    /// cannot be. Nothing happens if the claim is lost.
    async fn postpone(
        &self,
        lora: LoraId,
        token: ClaimToken,
        pause: Duration,
    ) -> Result<(), RepoError>;
}
