use std::collections::BTreeSet;

use atelier_domain::actor::Actor;
use atelier_domain::ids::{LoraId, RunId};
use atelier_domain::lora::LoraStatus;
use atelier_domain::ports::WriteOutcome;
use atelier_domain::run::NewRun;

use super::{Harness, a_failure};
use crate::build::{a_new_run, a_workflow, an_actor, next_time, received};

impl Harness {
    pub(super) async fn run_that_needs(&self, owner: &Actor, lora: LoraId) -> RunId {
        let workflow = self.workflows.create(owner, a_workflow()).await.unwrap();
        let new = NewRun {
            lora_ids: vec![lora],
            ..a_new_run(workflow.id)
        };
        crate::enqueue(&*self.runs, owner, new).await.id
    }
}

/// A worker loads what its runs need, whoever's, deleted or not, as it was.
pub async fn a_deleted_lora_is_loaded_until_forgotten(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let deleted = h.ready(&alice, "a.safetensors", b"1").await;
    let kept = h.ready(&bob, "a.safetensors", b"2").await;
    h.deleted(&alice, deleted.id).await;

    let ids = vec![deleted.id, kept.id, LoraId::new(crate::random_id())];
    let mut loaded = h.loras.load_for_sync(ids.clone()).await.unwrap();

    loaded.sort_by_key(|lora| lora.id);
    let mut expected = vec![deleted.clone(), kept.clone()];
    expected.sort_by_key(|lora| lora.id);
    assert_eq!(loaded, expected);
    h.loras.forget(deleted.id).await.unwrap();
    let loaded = h.loras.load_for_sync(ids).await.unwrap();
    assert_eq!(loaded, [kept]);
}

/// What is in use is not cleaned away.
pub async fn a_ready_or_reserved_lora_is_not_due(h: &Harness) {
    let alice = an_actor();
    let ready = h.ready(&alice, "a.safetensors", b"1").await;
    let reserved = h.reserved(&alice, "b.safetensors").await;

    assert!(!h.is_due(ready.id).await);
    assert!(!h.is_due(reserved.id).await);
}

/// A deleted LoRA is due until it is forgotten, and then its row is gone.
pub async fn a_deleted_lora_is_due_and_forgotten(h: &Harness) {
    let alice = an_actor();
    let ready = h.ready(&alice, "a.safetensors", b"1").await;
    let reserved = h.reserved(&alice, "b.safetensors").await;
    for lora in [ready, reserved] {
        h.deleted(&alice, lora.id).await;
        let due = h.loras.due_for_cleaning(u16::MAX).await.unwrap();
        let due = due.into_iter().find(|due| due.id == lora.id).unwrap();
        assert_eq!(due.blob_key, lora.blob_key);
        assert!(h.is_due(lora.id).await, "still: nobody has forgotten it");

        h.loras.forget(lora.id).await.unwrap();

        assert!(!h.is_due(lora.id).await);
        assert!(!h.is_kept(lora.id).await);
        h.loras.forget(lora.id).await.unwrap();
    }
}

/// A failed LoRA loses its object; its owner can read why, and delete it.
pub async fn a_failed_lora_is_due_and_stays_for_its_owner(h: &Harness) {
    let alice = an_actor();
    let failed = h.failed(&alice, "a.safetensors").await;
    assert!(h.is_due(failed.id).await);

    h.loras.forget(failed.id).await.unwrap();

    assert!(!h.is_due(failed.id).await);
    let read = h.get(&alice, failed.id).await.unwrap();
    assert_eq!(read.status, LoraStatus::Failed);
    assert_eq!(read.error, Some(a_failure()));
    h.deleted(&alice, failed.id).await;
    assert_eq!(h.get(&alice, failed.id).await, None);
    assert!(!h.is_due(failed.id).await, "its object is gone already");
    assert!(!h.is_kept(failed.id).await);
}

/// Once its object may be cleaned away, bytes that come late do not make it
/// ready: no ready LoRA is without its object.
pub async fn an_abandoned_lora_is_due_and_never_becomes_ready(h: &Harness) {
    let alice = an_actor();
    let lora = h.reserved(&alice, "a.safetensors").await;
    assert!(!h.is_due(lora.id).await);
    h.abandoned(lora.id).await;

    assert!(h.is_due(lora.id).await);

    let late = h.loras.mark_ready(&alice, lora.id, received(b"1")).await;
    assert_eq!(late.unwrap(), WriteOutcome::NotFound);
    assert!(h.is_due(lora.id).await);
    h.loras.forget(lora.id).await.unwrap();
    assert!(!h.is_due(lora.id).await);
}

/// The objects of failed and abandoned LoRAs that gave way are due, too.
pub async fn what_gave_way_is_due(h: &Harness) {
    let alice = an_actor();
    let failed = h.failed(&alice, "a.safetensors").await;
    let abandoned = h.reserved(&alice, "b.safetensors").await;
    h.abandoned(abandoned.id).await;
    let successors = [
        h.reserved(&alice, "a.safetensors").await,
        h.reserved(&alice, "b.safetensors").await,
    ];
    for id in [failed.id, abandoned.id] {
        assert!(h.is_due(id).await);
        h.loras.forget(id).await.unwrap();
        assert!(!h.is_due(id).await);
        assert!(!h.is_kept(id).await);
    }
    for successor in successors {
        assert!(!h.is_due(successor.id).await);
        assert_eq!(h.get(&alice, successor.id).await, Some(successor));
    }
}

/// Runs that were put into the queue before a LoRA was deleted may use it
/// until they are over.
pub async fn a_lora_that_an_unfinished_run_needs_is_not_due(h: &Harness) {
    let alice = an_actor();
    let lora = h.ready(&alice, "a.safetensors", b"1").await;
    let runs = [
        h.run_that_needs(&alice, lora.id).await,
        h.run_that_needs(&alice, lora.id).await,
    ];
    h.deleted(&alice, lora.id).await;
    for run in runs {
        assert!(!h.is_due(lora.id).await);
        assert!(h.is_kept(lora.id).await);
        let over = h.runs.request_cancel(&alice, run, next_time()).await;
        assert!(matches!(over.unwrap(), WriteOutcome::Done(_)));
    }

    assert!(h.is_due(lora.id).await);
}

/// At most `limit` at once, and all of them in the end.
pub async fn cleaning_takes_at_most_its_limit(h: &Harness) {
    let alice = an_actor();
    let mut left = BTreeSet::new();
    for count in 0..5 {
        let lora = h.failed(&alice, &format!("{count}.safetensors")).await;
        left.insert(lora.id);
    }

    let due = h.loras.due_for_cleaning(2).await.unwrap();

    assert_eq!(due.len(), 2);
    let none = h.loras.due_for_cleaning(0).await.unwrap();
    assert_eq!(none, []);
    let all = h.loras.due_for_cleaning(u16::MAX).await.unwrap();
    let all: BTreeSet<_> = all.iter().map(|lora| lora.id).collect();
    assert!(left.is_subset(&all));
}

/// Forgetting what is ready or reserved by mistake takes nothing away.
pub async fn forgetting_spares_what_is_in_use(h: &Harness) {
    let alice = an_actor();
    let ready = h.ready(&alice, "a.safetensors", b"1").await;
    let reserved = h.reserved(&alice, "b.safetensors").await;
    for lora in [&ready, &reserved] {
        h.loras.forget(lora.id).await.unwrap();

        assert_eq!(h.get(&alice, lora.id).await.as_ref(), Some(lora));
    }
    let made_ready = h
        .loras
        .mark_ready(&alice, reserved.id, received(b"2"))
        .await;
    assert!(matches!(made_ready.unwrap(), WriteOutcome::Done(_)));
}
