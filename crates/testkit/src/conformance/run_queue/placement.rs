use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::{LoraId, RunId};
use atelier_domain::ports::{BackendReport, ClaimOutcome, ClaimRequest};
use atelier_domain::run::NewRun;

use super::{BACKEND, Harness};
use crate::build::{a_claim, a_new_lora, an_actor};
use crate::{PATIENCE, wait_until};

const OTHER: &str = "backend-2";
const MINUTE: Duration = Duration::from_mins(1);

/// A backend with room for ten, and nothing loaded.
fn a_report(backend: &str) -> BackendReport {
    BackendReport {
        backend: backend.to_owned(),
        worker: "worker of a test".to_owned(),
        answers: true,
        max_in_flight: 10,
        foreign_prompts: 0,
        checkpoint: None,
    }
}

/// A wish that leaves a run to better backends for a minute.
fn a_patient_claim(backend: &str) -> ClaimRequest {
    ClaimRequest {
        affinity: MINUTE,
        ..a_claim(backend)
    }
}

impl Harness {
    async fn told(&self, report: BackendReport) {
        self.queue.tell_backend(report).await.unwrap();
    }

    async fn both_answer(&self) {
        self.told(a_report(BACKEND)).await;
        self.told(a_report(OTHER)).await;
    }

    async fn loras_of<const COUNT: usize>(&self, owner: &Actor) -> [LoraId; COUNT] {
        let mut ids = [LoraId::new(crate::random_id()); COUNT];
        for (count, id) in ids.iter_mut().enumerate() {
            let new = a_new_lora(&format!("style-{count}.safetensors"));
            *id = self.loras.reserve(owner, new).await.unwrap().id;
        }
        ids
    }

    async fn enqueued_with(&self, owner: &Actor, loras: &[LoraId], checkpoint: &str) -> RunId {
        let new = NewRun {
            lora_ids: loras.to_vec(),
            checkpoint: Some(checkpoint.to_owned()),
            ..self.new_run(owner).await
        };
        crate::enqueue(&*self.runs, owner, new).await.id
    }

    async fn patience(&self, backend: &str) -> Duration {
        match self.queue.claim(a_patient_claim(backend)).await.unwrap() {
            ClaimOutcome::Deferred(patience) => patience,
            other => panic!("the run is not left to a better backend: {other:?}"),
        }
    }

    async fn takes(&self, backend: &str) -> RunId {
        self.claimed_by(a_patient_claim(backend)).await.run_id
    }
}

fn assert_about(patience: Duration, expected: Duration) {
    assert!(patience <= expected, "{patience:?} > {expected:?}");
    assert!(patience > expected / 2, "{patience:?}");
}

/// More of its LoRAs are there.
pub async fn a_run_is_left_to_the_backend_with_its_loras(h: &Harness) {
    let alice = an_actor();
    let [first, second, absent] = h.loras_of(&alice).await;
    h.both_answer().await;
    h.queue.tell_loras(BACKEND, vec![first]).await.unwrap();
    let copies = vec![second, first, LoraId::new(crate::random_id())];
    h.queue.tell_loras(OTHER, copies).await.unwrap();
    let run = h.enqueued_with(&alice, &[first, second, absent], "a").await;

    assert_about(h.patience(BACKEND).await, MINUTE);
    assert_about(h.patience(BACKEND).await, MINUTE);
    assert_eq!(h.takes(OTHER).await, run);
}

/// Its checkpoint is loaded there.
pub async fn a_run_is_left_to_the_backend_with_its_checkpoint(h: &Harness) {
    let alice = an_actor();
    h.both_answer().await;
    h.told(BackendReport {
        checkpoint: Some("b".to_owned()),
        ..a_report(OTHER)
    })
    .await;
    let other = h.enqueued_with(&alice, &[], "a").await;
    assert_eq!(h.takes(BACKEND).await, other, "nothing suits it better");
    // As many runs on either.
    h.enqueued_with(&alice, &[], "a").await;
    h.takes(OTHER).await;
    let run = h.enqueued_with(&alice, &[], "b").await;

    assert_about(h.patience(BACKEND).await, MINUTE);
    assert_eq!(h.takes(OTHER).await, run);
}

/// Where nothing but the number of runs differs, a tenth.
pub async fn a_run_is_left_briefly_to_the_backend_with_fewer_runs(h: &Harness) {
    let alice = an_actor();
    h.both_answer().await;
    h.enqueued(&alice).await;
    h.takes(BACKEND).await;
    let run = h.enqueued(&alice).await;

    assert_about(h.patience(BACKEND).await, MINUTE / 10);
    h.told(BackendReport {
        foreign_prompts: 1,
        ..a_report(OTHER)
    })
    .await;

    assert_eq!(h.takes(BACKEND).await, run, "strangers' prompts count too");
}

/// In this order, whatever the other two say.
pub async fn loras_count_more_than_checkpoints_and_those_more_than_runs(h: &Harness) {
    let alice = an_actor();
    let [lora] = h.loras_of(&alice).await;
    h.told(BackendReport {
        checkpoint: Some("a".to_owned()),
        ..a_report(BACKEND)
    })
    .await;
    h.told(BackendReport {
        foreign_prompts: 5,
        ..a_report(OTHER)
    })
    .await;
    h.queue.tell_loras(OTHER, vec![lora]).await.unwrap();
    let with_lora = h.enqueued_with(&alice, &[lora], "a").await;
    assert_about(h.patience(BACKEND).await, MINUTE);
    assert_eq!(h.takes(OTHER).await, with_lora);

    let without = h.enqueued_with(&alice, &[], "a").await;
    assert_about(h.patience(OTHER).await, MINUTE);
    assert_eq!(h.takes(BACKEND).await, without);
}

/// It is full, or does not answer.
pub async fn a_backend_that_cannot_take_a_run_is_not_waited_for(h: &Harness) {
    let alice = an_actor();
    let [lora] = h.loras_of(&alice).await;
    h.queue.tell_loras(OTHER, vec![lora]).await.unwrap();
    let first = h.enqueued_with(&alice, &[lora], "a").await;
    assert_eq!(h.takes(BACKEND).await, first, "nobody spoke of the other");

    h.told(BackendReport {
        answers: false,
        ..a_report(OTHER)
    })
    .await;
    let second = h.enqueued_with(&alice, &[lora], "a").await;
    assert_eq!(h.takes(BACKEND).await, second, "the other does not answer");

    h.told(BackendReport {
        max_in_flight: 1,
        ..a_report(OTHER)
    })
    .await;
    let third = h.enqueued_with(&alice, &[lora], "a").await;
    assert_eq!(h.takes(OTHER).await, third);
    let fourth = h.enqueued_with(&alice, &[lora], "a").await;
    assert_eq!(h.takes(BACKEND).await, fourth, "the other is full");
}

/// Affinity starves nobody: whoever asks gets the run after a while.
pub async fn a_run_is_left_to_another_backend_for_a_while_only(h: &Harness) {
    let alice = an_actor();
    let [lora] = h.loras_of(&alice).await;
    h.both_answer().await;
    h.queue.tell_loras(OTHER, vec![lora]).await.unwrap();
    let run = h.enqueued_with(&alice, &[lora], "a").await;
    h.patience(BACKEND).await;
    let mut claimed = None;

    wait_until("the end of the affinity", PATIENCE, async || {
        let request = ClaimRequest {
            affinity: Duration::from_millis(100),
            ..a_claim(BACKEND)
        };
        match h.queue.claim(request).await.unwrap() {
            ClaimOutcome::Claimed(run) => claimed = Some(run.run_id),
            ClaimOutcome::Deferred(patience) => assert!(patience.as_millis() <= 100),
            ClaimOutcome::Nothing => panic!("the run is gone"),
        }
        claimed.is_some()
    })
    .await;

    assert_eq!(claimed, Some(run));
}

/// The next person's run is taken instead.
pub async fn what_is_left_to_others_keeps_nobody_else_waiting(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let [lora] = h.loras_of(&alice).await;
    h.both_answer().await;
    h.queue.tell_loras(OTHER, vec![lora]).await.unwrap();
    let left = h.enqueued_with(&alice, &[lora], "a").await;
    let taken = h.enqueued(&bob).await;

    assert_eq!(h.takes(BACKEND).await, taken);
    assert_eq!(h.takes(OTHER).await, left);
}
