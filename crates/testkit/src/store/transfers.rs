use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::idempotency::{EarlierRequest, IdempotentRequest};
use atelier_domain::ids::{ClaimToken, LoraId, UserId};
use atelier_domain::lora::{Lora, LoraFailure, ReceivedLora};
use atelier_domain::ports::{
    ClaimedTransfer, ImportOutcome, ImportTerms, LoraTransfers, NewImport, RemoteFile, RepoError,
    RunTopic, TransferClaim, TransferWork,
};
use chrono::{DateTime, Utc};

use super::lora_row::LoraRow;
use super::{ABANDONED_AFTER, FakeStore, State};

/// The transfers of a [`FakeStore`].
#[derive(Clone, Debug)]
pub struct FakeLoraTransfers(pub(super) FakeStore);

/// A transfer as the store keeps it.
pub(super) struct TransferRow {
    owner: UserId,
    /// `None` for bytes that are in the pieces of an upload.
    remote: Option<RemoteFile>,
    held: bool,
    claim: Option<Lease>,
    attempt: u32,
    not_before: DateTime<Utc>,
}

struct Lease {
    token: ClaimToken,
    until: DateTime<Utc>,
}

impl TransferRow {
    /// The transfer of an upload's pieces.
    pub(super) fn of_pieces(owner: UserId, now: DateTime<Utc>) -> Self {
        Self {
            owner,
            remote: None,
            held: false,
            claim: None,
            attempt: 0,
            not_before: now,
        }
    }

    /// Since when somebody may take it up; `None` while nobody may.
    fn free_since(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let since = self
            .claim
            .as_ref()
            .map_or(self.not_before, |claim| claim.until);
        (since <= now).then_some(since)
    }

    fn is_held_by(&self, token: ClaimToken) -> bool {
        self.claim
            .as_ref()
            .is_some_and(|claim| claim.token == token)
    }
}

impl State {
    /// Whether a worker may be writing the object at this moment.
    pub(super) fn is_being_brought(&self, id: LoraId, now: DateTime<Utc>) -> bool {
        self.transfers
            .get(&id)
            .and_then(|row| row.claim.as_ref())
            .is_some_and(|claim| claim.until > now)
    }

    pub(super) fn begin_transfer(&mut self, id: LoraId, row: TransferRow) {
        let waits = row.claim.is_none();
        self.transfers.insert(id, row);
        if waits {
            self.signal(RunTopic::Queue);
        }
    }

    fn unfinished_imports(&self, actor: &Actor) -> usize {
        self.transfers
            .iter()
            .filter(|(_, row)| row.remote.is_some() && row.owner == actor.user_id())
            .filter(|(id, _)| self.loras.get(*id).is_some_and(LoraRow::is_reserved))
            .count()
    }

    /// The transfer and its LoRA, if this claim holds it still.
    fn claimed(
        &mut self,
        id: LoraId,
        token: ClaimToken,
    ) -> Option<(&mut TransferRow, &mut LoraRow)> {
        let transfer = self
            .transfers
            .get_mut(&id)
            .filter(|row| row.is_held_by(token))?;
        let lora = self.loras.get_mut(&id).filter(|row| row.is_reserved())?;
        Some((transfer, lora))
    }

    fn free_longest(&self, now: DateTime<Utc>) -> Option<LoraId> {
        self.transfers
            .iter()
            .filter_map(|(id, row)| Some((row.free_since(now)?, *id)))
            .min()
            .map(|(_, id)| id)
    }
}

#[async_trait]
impl LoraTransfers for FakeLoraTransfers {
    async fn earlier_request(
        &self,
        actor: &Actor,
        request: &IdempotentRequest,
    ) -> Result<Option<EarlierRequest>, RepoError> {
        let now = self.0.now();
        Ok(self.0.open()?.earlier_request(actor, request, now))
    }

    async fn begin(
        &self,
        actor: &Actor,
        new: NewImport,
        terms: ImportTerms,
    ) -> Result<ImportOutcome, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let earlier = terms
            .idempotency
            .as_ref()
            .and_then(|(request, _)| state.earlier_request(actor, request, now));
        if let Some(earlier) = earlier {
            return Ok(ImportOutcome::Earlier(earlier));
        }
        if state.unfinished_imports(actor) as u64 >= u64::from(terms.max_unfinished) {
            return Ok(ImportOutcome::TooMany);
        }
        let lora = state.reserve(actor, new.lora, now + ABANDONED_AFTER, now)?;
        let row = TransferRow {
            owner: actor.user_id(),
            remote: Some(new.file),
            held: new.held.is_some(),
            attempt: u32::from(new.held.is_some()),
            claim: new.held.map(|claim| Lease {
                token: claim.token,
                until: now + claim.lease,
            }),
            not_before: now,
        };
        state.begin_transfer(lora.id, row);
        if let Some((request, answer)) = terms.idempotency {
            state.answer(actor, &request, answer, now);
        }
        Ok(ImportOutcome::Begun(Box::new(lora)))
    }

    async fn claim(&self, claim: TransferClaim) -> Result<Option<ClaimedTransfer>, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        while let Some(id) = state.free_longest(now) {
            let state = &mut *state;
            let transfer = state.transfers.get_mut(&id).expect("it was just found");
            let Some(row) = state.loras.get_mut(&id).filter(|row| row.is_reserved()) else {
                state.transfers.remove(&id);
                continue;
            };
            if transfer.held {
                row.fail(LoraFailure {
                    code: "credential_gone".to_owned(),
                    message: "The credential for this import was lost before the file was there; \
                              send the import again."
                        .to_owned(),
                });
                state.transfers.remove(&id);
                continue;
            }
            transfer.claim = Some(Lease {
                token: claim.token,
                until: now + claim.lease,
            });
            transfer.attempt += 1;
            let work = match &transfer.remote {
                Some(file) => TransferWork::Remote(file.clone()),
                None => TransferWork::Pieces(
                    state
                        .uploads
                        .get(&id)
                        .map_or_else(Vec::new, |upload| upload.pieces.clone()),
                ),
            };
            return Ok(Some(ClaimedTransfer {
                token: claim.token,
                lora: row.lora.clone(),
                work,
                attempt: transfer.attempt,
            }));
        }
        Ok(None)
    }

    async fn report(
        &self,
        lora: LoraId,
        token: ClaimToken,
        bytes_done: u64,
        bytes_total: Option<u64>,
        lease: Duration,
    ) -> Result<bool, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let Some((transfer, row)) = state.claimed(lora, token) else {
            return Ok(false);
        };
        transfer.claim = Some(Lease {
            token,
            until: now + lease,
        });
        row.lora.bytes_done = if transfer.remote.is_some() {
            bytes_done
        } else {
            // They are all there already: they are only being put together.
            row.lora.bytes_done.max(bytes_done)
        };
        row.lora.bytes_total = bytes_total.or(row.lora.bytes_total);
        row.expires_at = row.expires_at.max(now + ABANDONED_AFTER);
        Ok(true)
    }

    async fn complete(
        &self,
        lora: LoraId,
        token: ClaimToken,
        received: ReceivedLora,
    ) -> Result<Option<Lora>, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        if state.claimed(lora, token).is_none() {
            return Ok(None);
        }
        state.transfers.remove(&lora);
        Ok(state.make_ready(lora, received, now))
    }

    async fn fail(
        &self,
        lora: LoraId,
        token: ClaimToken,
        failure: LoraFailure,
    ) -> Result<(), RepoError> {
        let mut state = self.0.open()?;
        if let Some((_, row)) = state.claimed(lora, token) {
            row.fail(failure);
            state.transfers.remove(&lora);
        }
        Ok(())
    }

    async fn postpone(
        &self,
        lora: LoraId,
        token: ClaimToken,
        pause: Duration,
    ) -> Result<(), RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let given_back = state
            .transfers
            .get_mut(&lora)
            .filter(|row| row.is_held_by(token) && !row.held);
        if let Some(transfer) = given_back {
            transfer.claim = None;
            transfer.not_before = now + pause;
            if pause.is_zero() {
                state.signal(RunTopic::Queue);
            }
        }
        Ok(())
    }
}
