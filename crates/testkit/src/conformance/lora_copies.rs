//! What every [`LoraCopies`] must do.

use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraFilename, LoraPath};
use atelier_domain::ports::{
    BackendReport, CopyState, LoraCopies, LoraRepo, RunQueue, WriteOutcome,
};

use super::KeepAlive;
use crate::build::{a_new_lora, an_actor, received};
use crate::random_id;

/// A store under test. It must be this harness's alone: the backends are
/// everybody's.
pub struct Harness {
    /// The copies under test.
    pub copies: Arc<dyn LoraCopies>,
    /// The LoRAs in the same store.
    pub loras: Arc<dyn LoraRepo>,
    /// Its queue, to which workers tell what is where.
    pub queue: Arc<dyn RunQueue>,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

use CopyState::{Absent, Present, Requested};

impl Harness {
    async fn ready(&self, owner: &Actor, filename: &str) -> Lora {
        let lora = self.loras.reserve(owner, a_new_lora(filename)).await;
        let ready = self
            .loras
            .mark_ready(owner, lora.unwrap().id, received(filename.as_bytes()));
        match ready.await.unwrap() {
            WriteOutcome::Done(lora) => lora,
            other => panic!("the LoRA did not become ready: {other:?}"),
        }
    }

    /// Two workers serve each of these.
    async fn served(&self, backends: &[&str]) {
        for backend in backends {
            for worker in ["one", "two"] {
                let report = BackendReport {
                    backend: (*backend).to_owned(),
                    worker: worker.to_owned(),
                    answers: true,
                    max_in_flight: 1,
                    foreign_prompts: 0,
                    checkpoint: None,
                };
                self.queue.tell_backend(report).await.unwrap();
            }
        }
    }

    async fn states(&self, actor: &Actor, lora: LoraId) -> Vec<(String, CopyState)> {
        let mut states = self.copies.states(actor, vec![lora]).await.unwrap();
        states.sort_by(|one, other| one.backend.cmp(&other.backend));
        assert!(states.iter().all(|copy| copy.lora_id == lora));
        states
            .into_iter()
            .map(|copy| (copy.backend, copy.state))
            .collect()
    }

    async fn requested(&self, owner: &Actor, lora: LoraId) {
        let outcome = self.copies.request(owner, lora).await.unwrap();
        assert!(matches!(outcome, WriteOutcome::Done(_)), "{outcome:?}");
    }

    async fn taken(&self, backend: &str, limit: u16) -> Vec<LoraId> {
        let taken = self.copies.take_requests(backend, limit).await.unwrap();
        taken.iter().map(|lora| lora.id).collect()
    }
}

fn on(backends: &[(&str, CopyState)]) -> Vec<(String, CopyState)> {
    backends
        .iter()
        .map(|(backend, state)| ((*backend).to_owned(), *state))
        .collect()
}

/// For each backend that is served, and for own LoRAs alone.
pub async fn states_are_told_of_own_loras_on_served_backends(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let lora = h.ready(&alice, "a.safetensors").await.id;
    let other = h.ready(&alice, "b.safetensors").await.id;
    assert_eq!(h.states(&alice, lora).await, [], "no backend is served");
    h.served(&["b1", "b2"]).await;
    h.queue.tell_loras("b2", vec![lora]).await.unwrap();
    h.queue.tell_loras("unserved", vec![lora]).await.unwrap();

    let expected = on(&[("b1", Absent), ("b2", Present)]);
    assert_eq!(h.states(&alice, lora).await, expected);
    let both = h.copies.states(&alice, vec![lora, other]).await.unwrap();
    assert_eq!(both.len(), 4);
    assert_eq!(h.states(&bob, lora).await, []);
    let none = h.copies.states(&alice, Vec::new()).await.unwrap();
    assert_eq!(none, []);
    let deleted = h.loras.delete(&alice, lora).await.unwrap();
    assert_eq!(deleted, WriteOutcome::Done(()));
    assert_eq!(h.states(&alice, lora).await, []);
}

/// Only where it is not; asking twice asks once.
pub async fn absent_copies_are_requested_once(h: &Harness) {
    let alice = an_actor();
    let lora = h.ready(&alice, "a.safetensors").await;
    h.served(&["b1", "b2"]).await;
    h.queue.tell_loras("b1", vec![lora.id]).await.unwrap();
    let expected = on(&[("b1", Present), ("b2", Requested)]);
    for _ in 0..2 {
        h.requested(&alice, lora.id).await;
        assert_eq!(h.states(&alice, lora.id).await, expected);
    }
    let taken = h.copies.take_requests("b1", 10).await.unwrap();
    assert_eq!(taken, []);

    let taken = h.copies.take_requests("b2", 10).await.unwrap();

    assert_eq!(taken, std::slice::from_ref(&lora));
    assert_eq!(h.taken("b2", 10).await, []);
    // It is on its way, so that asking again changes nothing.
    h.requested(&alice, lora.id).await;
    assert_eq!(h.states(&alice, lora.id).await, expected);
    assert_eq!(h.taken("b2", 10).await, []);
    h.queue.tell_loras("b2", vec![lora.id]).await.unwrap();
    let expected = on(&[("b1", Present), ("b2", Present)]);
    assert_eq!(h.states(&alice, lora.id).await, expected);
}

/// The oldest first, at most so many; another backend's stay.
pub async fn requests_are_taken_the_oldest_first(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    h.served(&["b1", "b2"]).await;
    let mut asked = Vec::new();
    for (owner, filename) in [
        (&alice, "a.safetensors"),
        (&bob, "a.safetensors"),
        (&alice, "b.safetensors"),
    ] {
        let lora = h.ready(owner, filename).await.id;
        h.requested(owner, lora).await;
        asked.push(lora);
    }
    let [first, second, third] = asked.try_into().unwrap();

    assert_eq!(h.taken("b1", 2).await, [first, second]);
    assert_eq!(h.taken("b1", 2).await, [third]);
    assert_eq!(h.taken("b1", 2).await, []);
    assert_eq!(h.taken("b2", 10).await, [first, second, third]);
}

/// Others' and absent ones are not found; what is on its way is not there to
/// be copied.
pub async fn only_own_ready_loras_are_requested(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    h.served(&["b1"]).await;
    let lora = h.ready(&alice, "a.safetensors").await.id;
    let reserved = h.loras.reserve(&alice, a_new_lora("b.safetensors")).await;
    let reserved = reserved.unwrap().id;
    for (actor, id) in [(&bob, lora), (&alice, LoraId::new(random_id()))] {
        let outcome = h.copies.request(actor, id).await.unwrap();
        assert_eq!(outcome, WriteOutcome::NotFound);
    }
    let outcome = h.copies.request(&alice, reserved).await.unwrap();
    assert!(matches!(outcome, WriteOutcome::Stale(_)), "{outcome:?}");
    assert_eq!(h.taken("b1", 10).await, []);
}

/// What was deleted meanwhile is not copied.
pub async fn requests_for_deleted_loras_are_dropped(h: &Harness) {
    let alice = an_actor();
    h.served(&["b1"]).await;
    for (filename, forgets) in [("a.safetensors", false), ("b.safetensors", true)] {
        let lora = h.ready(&alice, filename).await.id;
        h.requested(&alice, lora).await;
        let deleted = h.loras.delete(&alice, lora).await.unwrap();
        assert_eq!(deleted, WriteOutcome::Done(()));
        if forgets {
            h.loras.forget(lora).await.unwrap();
        }
    }

    assert_eq!(h.taken("b1", 10).await, []);
}

/// What was evicted is absent again, there alone.
pub async fn copies_that_are_gone_are_absent(h: &Harness) {
    let alice = an_actor();
    let ready = h.ready(&alice, "a.safetensors").await;
    let path = ready.content.unwrap().comfyui_path;
    let lora = ready.id;
    let other = h.ready(&alice, "b.safetensors").await.id;
    h.served(&["b1", "b2"]).await;
    for backend in ["b1", "b2"] {
        let told = h.queue.tell_loras(backend, vec![lora, other]);
        told.await.unwrap();
    }

    let filename = LoraFilename::parse("never.safetensors").unwrap();
    let never = LoraPath::first(alice.user_id(), &filename);
    let gone = h.copies.tell_gone("b1", vec![path, never]);
    gone.await.unwrap();

    let expected = on(&[("b1", Absent), ("b2", Present)]);
    assert_eq!(h.states(&alice, lora).await, expected);
    let expected = on(&[("b1", Present), ("b2", Present)]);
    assert_eq!(h.states(&alice, other).await, expected);
}

/// Tests a `LoraCopies`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! lora_copies_conformance {
    ($harness:expr) => {
        $crate::__cases! { lora_copies in lora_copies_conformance, $harness;
            states_are_told_of_own_loras_on_served_backends,
            absent_copies_are_requested_once,
            requests_are_taken_the_oldest_first,
            only_own_ready_loras_are_requested,
            requests_for_deleted_loras_are_dropped,
            copies_that_are_gone_are_absent,
        }
    };
}
