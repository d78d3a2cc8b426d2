//! What every [`LoraTransfers`] must do.

mod claims;
mod imports;

use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraFailure};
use atelier_domain::ports::{
    ClaimedTransfer, ImportOutcome, LoraRepo, LoraTransfers, NewImport, RunSignals, TransferClaim,
    WriteOutcome,
};

pub use claims::*;
pub use imports::*;

use super::{AbandonReservation, AgeAnswers, KeepAlive};
use crate::build::{a_transfer_claim, an_import, import_terms};

/// A store under test. It must be this harness's alone: a claim takes whatever
/// waits.
pub struct Harness {
    /// The transfers under test.
    pub transfers: Arc<dyn LoraTransfers>,
    /// The LoRAs in the same store.
    pub loras: Arc<dyn LoraRepo>,
    /// Its signals.
    pub signals: Arc<dyn RunSignals>,
    /// Makes a reservation look as if its bytes had stopped coming long ago.
    pub abandon_reservation: AbandonReservation,
    /// Makes a person's answers too old to be given again.
    pub age_answers: AgeAnswers,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

/// A claim whose lease is over as soon as it is begun.
fn a_claim_that_is_lost() -> TransferClaim {
    TransferClaim {
        lease: Duration::ZERO,
        ..a_transfer_claim()
    }
}

fn a_failure() -> LoraFailure {
    LoraFailure {
        code: "not_safetensors".to_owned(),
        message: "The file is no safetensors file; export it as one.".to_owned(),
    }
}

impl Harness {
    async fn begun(&self, owner: &Actor, new: NewImport) -> Lora {
        match self.transfers.begin(owner, new, import_terms()).await {
            Ok(ImportOutcome::Begun(lora)) => *lora,
            other => panic!("the import was not begun: {other:?}"),
        }
    }

    async fn begun_as(&self, owner: &Actor, filename: &str) -> Lora {
        self.begun(owner, an_import(filename)).await
    }

    async fn claimed(&self, claim: TransferClaim) -> Option<ClaimedTransfer> {
        self.transfers.claim(claim).await.unwrap()
    }

    /// The transfer that any worker would get now.
    async fn next(&self) -> ClaimedTransfer {
        let claimed = self.claimed(a_transfer_claim()).await;
        claimed.expect("a transfer waits")
    }

    async fn nothing_waits(&self) -> bool {
        self.claimed(a_transfer_claim()).await.is_none()
    }

    async fn get(&self, owner: &Actor, id: LoraId) -> Option<Lora> {
        self.loras.get(owner, id).await.unwrap()
    }

    async fn deleted(&self, owner: &Actor, id: LoraId) {
        let outcome = self.loras.delete(owner, id).await.unwrap();
        assert_eq!(outcome, WriteOutcome::Done(()));
    }

    async fn is_due(&self, id: LoraId) -> bool {
        let due = self.loras.due_for_cleaning(u16::MAX).await.unwrap();
        due.iter().any(|lora| lora.id == id)
    }

    /// Whether the claim still holds.
    async fn holds(&self, claimed: &ClaimedTransfer) -> bool {
        let lease = Duration::from_mins(1);
        let report = self
            .transfers
            .report(claimed.lora.id, claimed.token, 7, None, lease);
        report.await.unwrap()
    }
}

/// Tests a `LoraTransfers`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! lora_transfers_conformance {
    ($harness:expr) => {
        $crate::__cases! { lora_transfers in lora_transfers_conformance, $harness;
            a_begun_import_is_claimed_with_its_file,
            where_nothing_waits_nothing_is_claimed,
            an_import_of_a_taken_filename_is_a_conflict,
            an_import_may_replace,
            an_import_is_begun_once_for_one_request,
            of_equal_imports_at_once_one_is_begun,
            an_old_answer_is_not_given_again,
            people_have_so_many_unfinished_imports_and_no_more,
            of_many_imports_at_once_no_more_are_begun_than_allowed,
            a_new_import_wakes_the_workers,
            an_import_that_waits_for_a_worker_is_not_abandoned,
            the_transfer_that_waited_longest_is_claimed_first,
            no_transfer_is_claimed_twice,
            a_lost_claim_is_taken_over,
            reports_are_read_back_and_keep_the_claim,
            a_completed_transfer_makes_its_lora_ready,
            a_failed_transfer_is_over,
            a_postponed_transfer_comes_back_when_its_time_has_come,
            a_held_transfer_is_its_holders_alone,
            a_held_transfer_fails_with_its_holder,
            a_deleted_lora_is_lost_to_its_worker,
            what_a_worker_may_be_writing_is_not_due,
            a_transfer_ends_with_its_lora,
        }
    };
}
