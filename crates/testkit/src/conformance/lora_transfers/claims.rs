use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ids::ClaimToken;
use atelier_domain::lora::LoraStatus;
use atelier_domain::ports::NewImport;

use super::{Harness, a_claim_that_is_lost, a_failure};
use crate::build::{a_transfer_claim, an_actor, an_import, received};
use crate::random_id;

const LEASE: Duration = Duration::from_mins(1);

/// First come, first served, whoever asked; what was given back waits behind.
pub async fn the_transfer_that_waited_longest_is_claimed_first(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let mut expected = Vec::new();
    for (owner, filename) in [
        (&alice, "a.safetensors"),
        (&bob, "a.safetensors"),
        (&alice, "b.safetensors"),
    ] {
        expected.push(h.begun_as(owner, filename).await.id);
    }
    let first = h.next().await;
    h.transfers
        .postpone(first.lora.id, first.token, Duration::ZERO)
        .await
        .unwrap();
    expected.rotate_left(1);

    let mut claimed = Vec::new();
    for _ in 0..3 {
        claimed.push(h.next().await.lora.id);
    }
    assert_eq!(claimed, expected);
    assert!(h.nothing_waits().await);
}

/// Eight workers at once, ten transfers: each is somebody's, once.
pub async fn no_transfer_is_claimed_twice(h: &Harness) {
    let alice = an_actor();
    let mut begun = BTreeSet::new();
    for count in 0..10 {
        let lora = h.begun_as(&alice, &format!("{count}.safetensors")).await;
        begun.insert(lora.id);
    }
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let transfers = Arc::clone(&h.transfers);
        workers.spawn(async move {
            let mut taken = Vec::new();
            while let Some(claimed) = transfers.claim(a_transfer_claim()).await.unwrap() {
                taken.push(claimed.lora.id);
            }
            taken
        });
    }

    let mut taken: Vec<_> = workers.join_all().await.into_iter().flatten().collect();
    // One that all of them passed over at the same moment is there still.
    while let Some(claimed) = h.claimed(a_transfer_claim()).await {
        taken.push(claimed.lora.id);
    }

    assert_eq!(taken.len(), 10);
    assert_eq!(taken.into_iter().collect::<BTreeSet<_>>(), begun);
}

/// Whoever gave no sign of life in time has it no more.
pub async fn a_lost_claim_is_taken_over(h: &Harness) {
    let alice = an_actor();
    let lora = h.begun_as(&alice, "a.safetensors").await;
    let lost = h.claimed(a_claim_that_is_lost()).await.unwrap();
    assert_eq!((lost.lora.id, lost.attempt), (lora.id, 1));

    let taken = h.next().await;

    assert_eq!((taken.lora.id, taken.attempt), (lora.id, 2));
    assert_eq!(taken.work, lost.work);
    assert!(!h.holds(&lost).await);
    let done = h.transfers.complete(lora.id, lost.token, received(b"1"));
    assert_eq!(done.await.unwrap(), None);
    let failed = h.transfers.fail(lora.id, lost.token, a_failure());
    failed.await.unwrap();
    let postponed = h.transfers.postpone(lora.id, lost.token, Duration::ZERO);
    postponed.await.unwrap();
    assert!(h.holds(&taken).await);
    assert!(h.nothing_waits().await);
    let read = h.get(&alice, lora.id).await.unwrap();
    assert_eq!(read.status, LoraStatus::Importing);
}

/// Its owner sees how far it is; and nobody takes it over meanwhile.
pub async fn reports_are_read_back_and_keep_the_claim(h: &Harness) {
    let alice = an_actor();
    let lora = h.begun_as(&alice, "a.safetensors").await;
    let claimed = h.claimed(a_claim_that_is_lost()).await.unwrap();
    (h.abandon_reservation)(lora.id).await;
    for (bytes_done, bytes_total, expected_total) in [
        (0, None, None),
        (3_000_000_000, Some(5_000_000_000), Some(5_000_000_000)),
        (4_000_000_000, None, Some(5_000_000_000)),
        // An attempt begins anew.
        (1, None, Some(5_000_000_000)),
    ] {
        let report = h
            .transfers
            .report(lora.id, claimed.token, bytes_done, bytes_total, LEASE);

        assert!(report.await.unwrap());
        let read = h.get(&alice, lora.id).await.unwrap();
        assert_eq!(
            (read.bytes_done, read.bytes_total),
            (bytes_done, expected_total)
        );
    }
    assert!(h.nothing_waits().await);
    let stranger = ClaimToken::new(random_id());
    let report = h.transfers.report(lora.id, stranger, 9, None, LEASE);
    assert!(!report.await.unwrap());
    let read = h.get(&alice, lora.id).await.unwrap();
    assert_eq!(read.bytes_done, 1);
}

/// As `mark_ready` does; a second time it is no more the claim's.
pub async fn a_completed_transfer_makes_its_lora_ready(h: &Harness) {
    let alice = an_actor();
    let lora = h.begun_as(&alice, "a.safetensors").await;
    let claimed = h.next().await;

    let done = h.transfers.complete(lora.id, claimed.token, received(b"1"));

    let ready = done.await.unwrap().unwrap();
    assert_eq!(ready.status, LoraStatus::Ready);
    assert_eq!(ready.source, lora.source);
    let content = ready.content.clone().unwrap();
    assert_eq!(content.hashes, received(b"1").hashes);
    assert_eq!(content.version.number(), 1);
    assert_eq!(h.get(&alice, lora.id).await, Some(ready.clone()));
    let again = h.transfers.complete(lora.id, claimed.token, received(b"2"));
    assert_eq!(again.await.unwrap(), None);
    assert!(!h.holds(&claimed).await);
    assert!(h.nothing_waits().await);
    assert_eq!(h.get(&alice, lora.id).await, Some(ready));
    assert!(!h.is_due(lora.id).await);
}

/// Its owner reads why, and it does not come again.
pub async fn a_failed_transfer_is_over(h: &Harness) {
    let alice = an_actor();
    let lora = h.begun_as(&alice, "a.safetensors").await;
    let claimed = h.next().await;

    let failed = h.transfers.fail(lora.id, claimed.token, a_failure());
    failed.await.unwrap();

    let read = h.get(&alice, lora.id).await.unwrap();
    assert_eq!(read.status, LoraStatus::Failed);
    assert_eq!(read.error, Some(a_failure()));
    assert!(!h.holds(&claimed).await);
    assert!(h.nothing_waits().await);
    assert!(h.is_due(lora.id).await);
    h.begun_as(&alice, "a.safetensors").await;
}

/// Not before; and then as a further attempt.
pub async fn a_postponed_transfer_comes_back_when_its_time_has_come(h: &Harness) {
    let alice = an_actor();
    let lora = h.begun_as(&alice, "a.safetensors").await;
    for attempt in 1..=2 {
        let claimed = h.next().await;
        assert_eq!((claimed.lora.id, claimed.attempt), (lora.id, attempt));
        let postponed = h.transfers.postpone(lora.id, claimed.token, Duration::ZERO);
        postponed.await.unwrap();
        assert!(!h.holds(&claimed).await);
    }
    let claimed = h.next().await;
    let postponed = h
        .transfers
        .postpone(lora.id, claimed.token, Duration::from_hours(1));
    postponed.await.unwrap();
    assert!(h.nothing_waits().await);
    assert!(!h.is_due(lora.id).await);
}

/// From its beginning, and it cannot be given back.
pub async fn a_held_transfer_is_its_holders_alone(h: &Harness) {
    let alice = an_actor();
    let claim = a_transfer_claim();
    let new = NewImport {
        held: Some(claim.clone()),
        ..an_import("a.safetensors")
    };
    let lora = h.begun(&alice, new).await;
    assert!(h.nothing_waits().await);

    let postponed = h.transfers.postpone(lora.id, claim.token, Duration::ZERO);
    postponed.await.unwrap();
    assert!(h.nothing_waits().await);
    let report = h.transfers.report(lora.id, claim.token, 5, Some(6), LEASE);
    assert!(report.await.unwrap());
    let done = h.transfers.complete(lora.id, claim.token, received(b"1"));
    assert!(done.await.unwrap().is_some());
}

/// Nobody else has the credential.
pub async fn a_held_transfer_fails_with_its_holder(h: &Harness) {
    let alice = an_actor();
    let claim = a_claim_that_is_lost();
    let new = NewImport {
        held: Some(claim.clone()),
        ..an_import("a.safetensors")
    };
    let held = h.begun(&alice, new).await;
    let other = h.begun_as(&alice, "b.safetensors").await;

    assert_eq!(h.next().await.lora.id, other.id);
    assert!(h.nothing_waits().await);

    let read = h.get(&alice, held.id).await.unwrap();
    assert_eq!(read.status, LoraStatus::Failed);
    let failure = read.error.unwrap();
    assert_eq!(failure.code, "credential_gone");
    assert!(!failure.message.is_empty());
    let report = h.transfers.report(held.id, claim.token, 5, None, LEASE);
    assert!(!report.await.unwrap());
}

/// Whoever has it learns so; nobody takes it up.
pub async fn a_deleted_lora_is_lost_to_its_worker(h: &Harness) {
    let alice = an_actor();
    let waiting = h.begun_as(&alice, "a.safetensors").await;
    h.deleted(&alice, waiting.id).await;
    assert!(h.nothing_waits().await);
    let lora = h.begun_as(&alice, "b.safetensors").await;
    let claimed = h.next().await;
    assert!(h.holds(&claimed).await);

    h.deleted(&alice, lora.id).await;

    assert!(!h.holds(&claimed).await);
    let done = h.transfers.complete(lora.id, claimed.token, received(b"1"));
    assert_eq!(done.await.unwrap(), None);
    assert_eq!(h.get(&alice, lora.id).await, None);
    assert!(h.is_due(waiting.id).await);
}

/// Its object is cleaned away once nobody can write it any more.
pub async fn what_a_worker_may_be_writing_is_not_due(h: &Harness) {
    let alice = an_actor();
    let lora = h.begun_as(&alice, "a.safetensors").await;
    let claimed = h.next().await;
    h.deleted(&alice, lora.id).await;
    assert!(!h.is_due(lora.id).await);

    let postponed = h.transfers.postpone(lora.id, claimed.token, Duration::ZERO);
    postponed.await.unwrap();

    assert!(h.is_due(lora.id).await);
    let lost = h.begun_as(&alice, "b.safetensors").await;
    h.claimed(a_claim_that_is_lost()).await.unwrap();
    h.deleted(&alice, lost.id).await;
    assert!(h.is_due(lost.id).await);
}

/// What was forgotten is nobody's to bring.
pub async fn a_transfer_ends_with_its_lora(h: &Harness) {
    let alice = an_actor();
    let lora = h.begun_as(&alice, "a.safetensors").await;
    let claimed = h.claimed(a_claim_that_is_lost()).await.unwrap();
    h.deleted(&alice, lora.id).await;
    h.loras.forget(lora.id).await.unwrap();

    assert!(!h.holds(&claimed).await);
    assert!(h.nothing_waits().await);
    assert!(!h.is_due(lora.id).await);
}
