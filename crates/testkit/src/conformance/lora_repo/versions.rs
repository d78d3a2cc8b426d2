use std::collections::BTreeSet;
use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraFilter, LoraStatus, LoraVersion};
use atelier_domain::ports::{Conflict, LoraName, RepoError, WriteOutcome};

use super::{Harness, a_failure, latest, path_of};
use crate::build::{a_new_lora, a_replacement, an_actor, received};
use crate::conformance::page;

impl Harness {
    /// A LoRA of these bytes that took the place of what was there.
    async fn replaced(&self, owner: &Actor, filename: &str, bytes: &[u8]) -> Lora {
        self.ready_from(owner, a_replacement(filename), received(bytes))
            .await
    }

    async fn replacing(&self, owner: &Actor, filename: &str) -> Lora {
        let reserved = self.loras.reserve(owner, a_replacement(filename)).await;
        reserved.unwrap()
    }

    async fn found(&self, owner: &Actor, name: LoraName) -> Option<LoraId> {
        let mut found = self.loras.find_ready(owner, vec![name]).await.unwrap();
        assert!(found.len() <= 1, "one name, several LoRAs: {found:?}");
        found.pop().map(|lora| lora.id)
    }

    async fn versions_of(&self, owner: &Actor, id: LoraId) -> Vec<LoraId> {
        let versions = self.loras.versions(owner, id).await.unwrap().unwrap();
        versions.iter().map(|lora| lora.id).collect()
    }

    async fn in_list(&self, owner: &Actor) -> BTreeSet<LoraId> {
        let listed = self.loras.list(owner, LoraFilter::default(), page(200));
        let items = listed.await.unwrap().items;
        items.iter().map(|lora| lora.id).collect()
    }
}

fn number_of(lora: &Lora) -> u32 {
    let content = lora.content.as_ref().expect("a ready LoRA has content");
    content.version.number()
}

fn version(lora: &Lora, number: u32) -> LoraName {
    let version = LoraVersion::new(number).expect("the case gives a good number");
    LoraName::Version(lora.filename.clone(), version)
}

/// What is to be replaced goes on until the new bytes are ready, and is an
/// earlier version from then on, under its own path.
pub async fn a_replacement_takes_over_when_it_is_ready(h: &Harness) {
    let alice = an_actor();
    let first = h.ready(&alice, "a.safetensors", b"1").await;
    let second = h.replacing(&alice, "a.safetensors").await;
    assert_ne!(second.blob_key, first.blob_key);
    assert_eq!(
        h.found(&alice, latest("a.safetensors")).await,
        Some(first.id)
    );
    assert_eq!(
        h.in_list(&alice).await,
        BTreeSet::from([first.id, second.id])
    );
    assert_eq!(h.versions_of(&alice, second.id).await, [first.id]);

    let outcome = h.loras.mark_ready(&alice, second.id, received(b"2")).await;

    let WriteOutcome::Done(second) = outcome.unwrap() else {
        panic!("the replacement did not become ready");
    };
    assert_eq!((number_of(&first), number_of(&second)), (1, 2));
    assert_eq!(second.superseded_at, None);
    assert_ne!(path_of(&second), path_of(&first));
    let kept = h.get(&alice, first.id).await.unwrap();
    assert!(kept.superseded_at.is_some());
    assert_eq!(
        Lora {
            superseded_at: None,
            ..kept
        },
        first
    );
    assert_eq!(h.in_list(&alice).await, BTreeSet::from([second.id]));
    for (name, expected) in [
        (latest("a.safetensors"), second.id),
        (version(&first, 1), first.id),
        (version(&first, 2), second.id),
        (LoraName::At(path_of(&first)), first.id),
        (LoraName::At(path_of(&second)), second.id),
    ] {
        assert_eq!(
            h.found(&alice, name.clone()).await,
            Some(expected),
            "{name:?}"
        );
    }
    assert_eq!(h.found(&alice, version(&first, 3)).await, None);
    assert!(!h.is_due(first.id).await, "an earlier version is kept");
}

/// Whoever would replace finds nothing there, and is the first.
pub async fn a_replacement_of_nothing_is_the_first_version(h: &Harness) {
    let alice = an_actor();

    let lora = h.replaced(&alice, "a.safetensors", b"1").await;

    assert_eq!(number_of(&lora), 1);
    assert_eq!(
        h.found(&alice, latest("a.safetensors")).await,
        Some(lora.id)
    );
}

/// Only who says so replaces: also beside a replacement on its way.
pub async fn a_plain_reservation_replaces_nothing(h: &Harness) {
    let alice = an_actor();
    let is_conflict = |outcome| matches!(outcome, Err(RepoError::Conflict(Conflict::LoraFilename)));
    h.ready(&alice, "a.safetensors", b"1").await;
    h.replaced(&alice, "a.safetensors", b"2").await;
    h.replacing(&alice, "a.safetensors").await;
    h.replacing(&alice, "b.safetensors").await;
    for filename in ["a.safetensors", "b.safetensors"] {
        let outcome = h.loras.reserve(&alice, a_new_lora(filename)).await;
        assert!(is_conflict(outcome), "{filename}");
    }
}

/// All versions are read through any of them; what is on its way or failed is
/// none.
pub async fn versions_are_read_the_latest_first(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let mut versions = vec![h.ready(&alice, "a.safetensors", b"1").await.id];
    for bytes in [b"2", b"3"] {
        versions.push(h.replaced(&alice, "a.safetensors", bytes).await.id);
    }
    versions.reverse();
    let on_its_way = h.replacing(&alice, "a.safetensors").await.id;
    h.ready(&alice, "b.safetensors", b"4").await;
    h.ready(&bob, "a.safetensors", b"5").await;
    for id in versions.iter().copied().chain([on_its_way]) {
        assert_eq!(h.versions_of(&alice, id).await, versions);
        assert_eq!(h.loras.versions(&bob, id).await.unwrap(), None);
    }
    let nobody = LoraId::new(crate::random_id());
    assert_eq!(h.loras.versions(&alice, nobody).await.unwrap(), None);
    let alone = h.reserved(&alice, "c.safetensors").await.id;
    assert_eq!(h.versions_of(&alice, alone).await, []);
}

/// The latest version takes all earlier ones with it; a new LoRA of that name
/// begins anew.
pub async fn deleting_the_latest_deletes_every_version(h: &Harness) {
    let alice = an_actor();
    let first = h.ready(&alice, "a.safetensors", b"1").await;
    let second = h.replaced(&alice, "a.safetensors", b"2").await;
    let coming = h.replacing(&alice, "a.safetensors").await;
    let other = h.ready(&alice, "b.safetensors", b"3").await;

    h.deleted(&alice, second.id).await;

    for lora in [&first, &second] {
        assert_eq!(h.get(&alice, lora.id).await, None);
        assert!(h.is_due(lora.id).await);
        assert_eq!(h.found(&alice, LoraName::At(path_of(lora))).await, None);
    }
    assert_eq!(
        h.in_list(&alice).await,
        BTreeSet::from([coming.id, other.id])
    );
    let outcome = h.loras.mark_ready(&alice, coming.id, received(b"4")).await;
    let WriteOutcome::Done(third) = outcome.unwrap() else {
        panic!("what was on its way was deleted as well");
    };
    assert_eq!(number_of(&third), 1);
}

/// An earlier version goes alone, and its number is not given again.
pub async fn an_earlier_version_is_deleted_alone(h: &Harness) {
    let alice = an_actor();
    let first = h.ready(&alice, "a.safetensors", b"1").await;
    let second = h.replaced(&alice, "a.safetensors", b"2").await;
    let third = h.replaced(&alice, "a.safetensors", b"3").await;

    h.deleted(&alice, second.id).await;

    assert_eq!(h.versions_of(&alice, third.id).await, [third.id, first.id]);
    assert_eq!(h.found(&alice, version(&first, 2)).await, None);
    assert_eq!(h.found(&alice, LoraName::At(path_of(&second))).await, None);
    h.deleted(&alice, first.id).await;
    let fourth = h.replaced(&alice, "a.safetensors", b"4").await;
    assert_eq!(number_of(&fourth), 4);
    assert_eq!(
        h.versions_of(&alice, fourth.id).await,
        [fourth.id, third.id]
    );
}

/// What was to take its place and did not come leaves a LoRA as it was.
pub async fn a_replacement_that_fails_changes_nothing(h: &Harness) {
    let alice = an_actor();
    let first = h.ready(&alice, "a.safetensors", b"1").await;
    let failed = h.replacing(&alice, "a.safetensors").await;
    let outcome = h.loras.mark_failed(&alice, failed.id, a_failure()).await;
    assert!(matches!(outcome.unwrap(), WriteOutcome::Done(_)));
    let deleted = h.replacing(&alice, "a.safetensors").await;
    assert_eq!(h.get(&alice, failed.id).await, None, "it gave way");
    h.deleted(&alice, deleted.id).await;
    let given_up = h.replacing(&alice, "a.safetensors").await;
    h.abandoned(given_up.id).await;
    assert!(h.is_due(given_up.id).await);

    assert_eq!(
        h.found(&alice, latest("a.safetensors")).await,
        Some(first.id)
    );
    assert_eq!(h.get(&alice, first.id).await, Some(first.clone()));
    let second = h.replaced(&alice, "a.safetensors", b"2").await;
    assert_eq!(number_of(&second), 2);
}

/// Bytes that come back share their path; it is found once, as the latest.
pub async fn an_earlier_versions_bytes_share_its_path(h: &Harness) {
    let alice = an_actor();
    let first = h.ready(&alice, "a.safetensors", b"1").await;
    let second = h.replaced(&alice, "a.safetensors", b"2").await;
    let third = h.replaced(&alice, "a.safetensors", b"1").await;

    assert_eq!(path_of(&third), path_of(&first));
    assert_ne!(third.blob_key, first.blob_key);
    let at_path = LoraName::At(path_of(&first));
    assert_eq!(h.found(&alice, at_path.clone()).await, Some(third.id));
    h.deleted(&alice, first.id).await;
    assert_eq!(h.found(&alice, at_path.clone()).await, Some(third.id));
    let names = vec![latest("a.safetensors"), at_path, version(&first, 3)];
    let found = h.loras.find_ready(&alice, names).await.unwrap();
    assert_eq!(
        found,
        std::slice::from_ref(&third),
        "one LoRA by three names"
    );
    assert_eq!(h.versions_of(&alice, third.id).await, [third.id, second.id]);
}

/// Of two that come at the same time the later one to be ready wins, also if
/// it was there first and never meant to replace anything.
pub async fn whoever_is_overtaken_takes_its_turn(h: &Harness) {
    let alice = an_actor();
    let plain = h.reserved(&alice, "a.safetensors").await;
    let replacing = h.replacing(&alice, "a.safetensors").await;
    for (id, bytes, expected) in [(replacing.id, b"1", 1), (plain.id, b"2", 2)] {
        let outcome = h.loras.mark_ready(&alice, id, received(bytes)).await;

        let WriteOutcome::Done(lora) = outcome.unwrap() else {
            panic!("{id} did not become ready");
        };
        assert_eq!(number_of(&lora), expected);
        assert_eq!(h.found(&alice, latest("a.safetensors")).await, Some(id));
    }
    let failing = h.reserved(&alice, "b.safetensors").await;
    let replacing = h.replacing(&alice, "b.safetensors").await;
    let outcome = h.loras.mark_failed(&alice, failing.id, a_failure()).await;
    assert!(matches!(outcome.unwrap(), WriteOutcome::Done(_)));
    let outcome = h
        .loras
        .mark_ready(&alice, replacing.id, received(b"3"))
        .await;
    assert!(matches!(outcome.unwrap(), WriteOutcome::Done(_)));
    let read = h.get(&alice, failing.id).await.unwrap();
    assert_eq!(read.status, LoraStatus::Failed);
}

/// Twelve replacements at once: twelve versions, and one that is the latest.
pub async fn replacements_at_once_all_end_well(h: &Harness) {
    const COUNT: u8 = 12;
    let alice = an_actor();
    let first = h.ready(&alice, "a.safetensors", b"first").await;
    let mut callers = tokio::task::JoinSet::new();
    for count in 1..COUNT {
        let (loras, alice) = (Arc::clone(&h.loras), alice.clone());
        callers.spawn(async move {
            let reserved = loras.reserve(&alice, a_replacement("a.safetensors")).await;
            // Some have the same bytes.
            let bytes = received(&[count % 7]);
            let reserved = reserved.unwrap();
            match loras.mark_ready(&alice, reserved.id, bytes).await.unwrap() {
                WriteOutcome::Done(lora) => number_of(&lora),
                other => panic!("a replacement did not become ready: {other:?}"),
            }
        });
    }

    let numbers: BTreeSet<u32> = callers.join_all().await.into_iter().collect();

    let expected: BTreeSet<u32> = (2..=u32::from(COUNT)).collect();
    assert_eq!(numbers, expected);
    let versions = h.loras.versions(&alice, first.id).await.unwrap().unwrap();
    let numbers: Vec<u32> = versions.iter().map(number_of).collect();
    assert_eq!(numbers, (1..=u32::from(COUNT)).rev().collect::<Vec<_>>());
    let current: Vec<u32> = versions
        .iter()
        .filter(|lora| lora.superseded_at.is_none())
        .map(number_of)
        .collect();
    assert_eq!(current, [u32::from(COUNT)]);
}

/// Deleting and replacing at once leaves one LoRA or none, never an earlier
/// version without a latest one.
pub async fn deleting_and_replacing_at_once_leave_no_orphan(h: &Harness) {
    for _ in 0..8 {
        let alice = an_actor();
        let first = h.ready(&alice, "a.safetensors", b"1").await;
        let second = h.replacing(&alice, "a.safetensors").await;

        let (deleted, ready) = tokio::join!(
            h.loras.delete(&alice, first.id),
            h.loras.mark_ready(&alice, second.id, received(b"2")),
        );

        assert_eq!(deleted.unwrap(), WriteOutcome::Done(()));
        assert!(matches!(ready.unwrap(), WriteOutcome::Done(_)));
        assert_eq!(h.versions_of(&alice, second.id).await, [second.id]);
        assert_eq!(
            h.found(&alice, latest("a.safetensors")).await,
            Some(second.id)
        );
    }
}
