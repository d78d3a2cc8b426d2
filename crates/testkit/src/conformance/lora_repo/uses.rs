use std::collections::BTreeSet;

use atelier_domain::actor::Actor;
use atelier_domain::ids::{ClaimToken, LoraId, RunId, UserId};
use atelier_domain::lora::{LoraFilename, LoraPath};
use atelier_domain::ports::{BlobKey, BlobOwner, PathContent, ReleaseReason, RunReport};
use atelier_domain::run::RunPhase;

use super::{Harness, path_of};
use crate::build::{a_claim, an_actor, sha256_of};
use crate::random_id;

impl Harness {
    async fn claimed_run(&self, owner: &Actor, lora: LoraId) -> (RunId, ClaimToken) {
        let run = self.run_that_needs(owner, lora).await;
        let claimed = crate::claim(&*self.queue, a_claim("backend")).await;
        let claimed = claimed.expect("the run waits");
        assert_eq!(claimed.run_id, run);
        (run, claimed.token)
    }

    async fn uses(&self, path: &LoraPath) -> bool {
        self.loras.paths_in_use().await.unwrap().contains(path)
    }

    async fn knows(&self, owner: BlobOwner) -> bool {
        let known = self.loras.known_owners(vec![owner.clone()]).await.unwrap();
        known == BTreeSet::from([owner])
    }
}

/// A run needs its LoRAs while a worker has it or a backend may have it,
/// deleted or not.
pub async fn paths_are_in_use_while_a_run_may_be_alive(h: &Harness) {
    let alice = an_actor();
    let lora = h.ready(&alice, "a.safetensors", b"1").await;
    let path = path_of(&lora);
    let waiting = h.run_that_needs(&alice, lora.id).await;
    assert!(!h.uses(&path).await, "what only waits needs no copy yet");
    let claimed = crate::claim(&*h.queue, a_claim("backend")).await.unwrap();
    assert_eq!(claimed.run_id, waiting);
    assert!(h.uses(&path).await);
    h.deleted(&alice, lora.id).await;
    assert!(h.uses(&path).await);

    let report = RunReport {
        phase: Some(RunPhase::Submitting),
        ..RunReport::default()
    };
    h.queue
        .report(waiting, claimed.token, report)
        .await
        .unwrap();
    let reason = ReleaseReason::BackendAway;
    h.queue
        .release(waiting, claimed.token, reason)
        .await
        .unwrap();
    assert!(h.uses(&path).await, "the backend may have it still");

    let claimed = crate::claim(&*h.queue, a_claim("backend")).await.unwrap();
    h.queue
        .complete(waiting, claimed.token, Vec::new())
        .await
        .unwrap();
    assert!(!h.uses(&path).await);
}

/// A run that goes back to wait for any backend needs nothing on a disk.
pub async fn a_run_that_was_given_back_uses_no_path(h: &Harness) {
    let alice = an_actor();
    let lora = h.ready(&alice, "a.safetensors", b"1").await;
    let (run, token) = h.claimed_run(&alice, lora.id).await;

    let reason = ReleaseReason::HandOver { may_live: false };
    h.queue.release(run, token, reason).await.unwrap();

    assert!(!h.uses(&path_of(&lora)).await);
}

/// What a path stands for is known for ever; whether somebody has it still is
/// told as well.
pub async fn a_paths_content_outlives_its_lora(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let lora = h.ready(&alice, "a.safetensors", b"1").await;
    let kept = h.ready(&bob, "a.safetensors", b"1").await;
    let filename = LoraFilename::parse("never.safetensors").unwrap();
    let never = LoraPath::first(alice.user_id(), &filename);
    let paths = vec![path_of(&lora), path_of(&kept), never];
    let read = async || {
        let mut contents = h.loras.contents_at(paths.clone()).await.unwrap();
        contents.sort_by_key(|content| content.path != path_of(&lora));
        contents
    };
    let content = |lora, is_alive| PathContent {
        path: path_of(lora),
        sha256: sha256_of(b"1"),
        is_alive,
    };
    assert_eq!(read().await, [content(&lora, true), content(&kept, true)]);

    h.deleted(&alice, lora.id).await;
    assert_eq!(read().await, [content(&lora, false), content(&kept, true)]);
    h.loras.forget(lora.id).await.unwrap();
    assert_eq!(read().await, [content(&lora, false), content(&kept, true)]);
}

/// An object's owner is known as long as its row may need the object.
pub async fn owners_of_objects_are_known(h: &Harness) {
    let alice = an_actor();
    let lora = h.ready(&alice, "a.safetensors", b"1").await;
    let failed = h.failed(&alice, "b.safetensors").await;
    let run = h.run_that_needs(&alice, lora.id).await;
    let nobody = BlobKey::parse(format!("{}.other", lora.blob_key)).unwrap();
    for (owner, is_known) in [
        (BlobOwner::Lora(lora.blob_key.clone()), true),
        (BlobOwner::Lora(failed.blob_key.clone()), true),
        (BlobOwner::Lora(nobody), false),
        (BlobOwner::Run(alice.user_id(), run), true),
        (BlobOwner::Run(UserId::new(random_id()), run), false),
        (
            BlobOwner::Run(alice.user_id(), RunId::new(random_id())),
            false,
        ),
        (BlobOwner::Upload(lora.id), false),
    ] {
        assert_eq!(h.knows(owner.clone()).await, is_known, "{owner:?}");
    }

    for id in [lora.id, failed.id] {
        h.deleted(&alice, id).await;
    }
    assert!(h.knows(BlobOwner::Lora(failed.blob_key.clone())).await);
    h.loras.forget(failed.id).await.unwrap();
    assert!(!h.knows(BlobOwner::Lora(failed.blob_key)).await);
    let known = h.loras.known_owners(Vec::new()).await.unwrap();
    assert_eq!(known, BTreeSet::new());
}

/// The store has one name for ever.
pub async fn an_installation_has_one_name(h: &Harness) {
    let first = h.loras.installation().await.unwrap();
    let second = h.loras.installation().await.unwrap();

    assert_eq!(first, second);
    assert!(!first.is_nil());
}
