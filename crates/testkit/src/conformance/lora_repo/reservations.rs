use std::collections::BTreeSet;
use std::sync::Arc;

use atelier_domain::digest::{Blake3Digest, Sha256Digest};
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{
    BaseModel, BaseModelFamily, Confidence, LoraFacts, LoraFilter, LoraHashes, LoraSource,
    LoraStatus, LoraVersion, NewLora, ReceivedLora,
};
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{Conflict, LoraName, RepoError, WriteOutcome};
use atelier_domain::text::Description;
use serde_json::json;

use super::{Harness, a_failure, path_of};
use crate::build::{a_new_lora, an_actor, name, received, sha256_of, tags};
use crate::random_id;

fn is_filename_conflict<T>(outcome: &Result<T, RepoError>) -> bool {
    matches!(outcome, Err(RepoError::Conflict(Conflict::LoraFilename)))
}

/// `get` gives what `reserve` was given: a LoRA without content.
pub async fn a_reserved_lora_is_read_back(h: &Harness) {
    let alice = an_actor();
    let new = NewLora {
        name: name("Ünï \"q\" \\ '"),
        description: Some(Description::parse("one\ntwo").unwrap()),
        tags: tags(&["b", "a"]),
        bytes_total: Some(5_000_000_000),
        ..a_new_lora("日本 style.SafeTensors")
    };

    let lora = h.loras.reserve(&alice, new.clone()).await.unwrap();

    assert_eq!(lora.id, new.id);
    assert_eq!(lora.user_id, alice.user_id());
    assert_eq!(lora.name, new.name);
    assert_eq!(lora.filename, new.filename);
    assert_eq!(lora.description, new.description);
    assert_eq!(lora.tags, new.tags);
    assert_eq!(lora.status, LoraStatus::Uploading);
    assert_eq!(lora.source, LoraSource::Upload);
    assert_eq!((lora.bytes_done, lora.bytes_total), (0, new.bytes_total));
    assert_eq!((lora.content.clone(), lora.error.clone()), (None, None));
    assert_eq!(lora.created_at, new.created_at);
    let folder = format!("user-{}/loras/", alice.user_id());
    assert!(lora.blob_key.as_str().starts_with(&folder), "{lora:?}");
    assert_eq!(h.get(&alice, new.id).await, Some(lora));
}

/// Bytes from elsewhere are `importing`, and the source is kept.
pub async fn an_import_is_reserved_as_importing(h: &Harness) {
    let alice = an_actor();
    let sources = [
        LoraSource::GoogleDrive {
            file_id: "1AbC_-x".to_owned(),
        },
        LoraSource::Url {
            url: "https://example.org/a.safetensors?x=1".to_owned(),
        },
    ];
    for (count, source) in sources.into_iter().enumerate() {
        let new = NewLora {
            source,
            ..a_new_lora(&format!("{count}.safetensors"))
        };

        let lora = h.loras.reserve(&alice, new.clone()).await.unwrap();

        assert_eq!(lora.status, LoraStatus::Importing);
        assert_eq!(lora.source, new.source);
        assert_eq!(h.get(&alice, new.id).await, Some(lora));
    }
}

/// An id is given once.
pub async fn a_taken_lora_id_is_a_conflict(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let first = h.reserved(&alice, "a.safetensors").await;
    for actor in [&alice, &bob] {
        let second = NewLora {
            id: first.id,
            ..a_new_lora("b.safetensors")
        };

        let outcome = h.loras.reserve(actor, second).await;

        assert!(
            matches!(outcome, Err(RepoError::Conflict(Conflict::Id))),
            "{outcome:?}"
        );
    }
    assert_eq!(h.get(&alice, first.id).await, Some(first));
}

/// A filename is unique per user, reserved or ready; others may use it.
pub async fn a_taken_filename_is_a_conflict_for_its_owner_alone(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let first = h.reserved(&alice, "a.safetensors").await;
    let again = || h.loras.reserve(&alice, a_new_lora("a.safetensors"));

    assert!(is_filename_conflict(&again().await));
    let outcome = h.loras.mark_ready(&alice, first.id, received(b"1")).await;
    assert!(matches!(outcome.unwrap(), WriteOutcome::Done(_)));
    assert!(is_filename_conflict(&again().await));

    h.reserved(&bob, "a.safetensors").await;
    h.reserved(&alice, "b.safetensors").await;
}

/// Eight reservations of one filename at once: one place.
pub async fn of_two_reservations_at_once_one_wins(h: &Harness) {
    let alice = an_actor();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (loras, alice) = (Arc::clone(&h.loras), alice.clone());
        callers.spawn(async move { loras.reserve(&alice, a_new_lora("a.safetensors")).await });
    }

    let outcomes = callers.join_all().await;

    let won = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
    assert_eq!(won, 1, "{outcomes:?}");
    for outcome in outcomes.iter().filter(|outcome| outcome.is_err()) {
        assert!(is_filename_conflict(outcome), "{outcome:?}");
    }
}

/// What failed is no obstacle to the next try.
pub async fn a_failed_lora_gives_way(h: &Harness) {
    let alice = an_actor();
    let failed = h.failed(&alice, "a.safetensors").await;

    let next = h.reserved(&alice, "a.safetensors").await;

    assert_ne!(next.id, failed.id);
    assert_ne!(next.blob_key, failed.blob_key, "its object may be there");
    assert_eq!(h.get(&alice, failed.id).await, None);
}

/// Nor is what its sender left half-way, long ago; its bytes come too late.
pub async fn a_reservation_whose_bytes_stopped_coming_gives_way(h: &Harness) {
    let alice = an_actor();
    let first = h.reserved(&alice, "a.safetensors").await;
    h.abandoned(first.id).await;

    let next = h.reserved(&alice, "a.safetensors").await;

    assert_ne!(next.blob_key, first.blob_key, "its object may be there");
    assert_eq!(h.get(&alice, first.id).await, None);
    let late = h.loras.mark_ready(&alice, first.id, received(b"1")).await;
    assert_eq!(late.unwrap(), WriteOutcome::NotFound);
}

/// Bytes that come slowly still come.
pub async fn progress_keeps_a_reservation_alive(h: &Harness) {
    let alice = an_actor();
    let first = h.reserved(&alice, "a.safetensors").await;
    h.abandoned(first.id).await;

    let outcome = h.loras.record_progress(&alice, first.id, 10).await;

    assert_eq!(outcome.unwrap(), WriteOutcome::Done(()));
    let again = h.loras.reserve(&alice, a_new_lora("a.safetensors")).await;
    assert!(is_filename_conflict(&again), "{again:?}");
    assert!(!h.is_due(first.id).await);
}

/// Its owner sees how far the bytes are.
pub async fn progress_is_read_back(h: &Harness) {
    let alice = an_actor();
    let lora = h.reserved(&alice, "a.safetensors").await;
    for bytes_done in [0, 1, 5_000_000_000] {
        let outcome = h.loras.record_progress(&alice, lora.id, bytes_done).await;

        assert_eq!(outcome.unwrap(), WriteOutcome::Done(()));
        let read = h.get(&alice, lora.id).await.unwrap();
        assert_eq!(read.bytes_done, bytes_done);
        assert_eq!(read.status, LoraStatus::Uploading);
    }
}

/// A ready LoRA has its final description and what is known of its bytes.
pub async fn a_received_lora_is_ready(h: &Harness) {
    let alice = an_actor();
    let metadata = json!({"ss_network_dim": "4", "nested": {"a": [1, 2.5, null, "ü"]}});
    let details = ReceivedLora {
        name: name("Final name"),
        description: Some(Description::parse("Final description").unwrap()),
        tags: tags(&["final"]),
        file_size: 5_000_000_000,
        facts: LoraFacts {
            base_model: Some(BaseModel {
                family: BaseModelFamily::StableDiffusion1,
                confidence: Confidence::Medium,
                evidence: "Its tensors fit \"SD 1.x\".".to_owned(),
            }),
            title: Some("Ünï title".to_owned()),
            rank: Some(4),
            network_type: Some("LoRA".to_owned()),
            trigger_words: vec!["b word".to_owned(), "a, \"word\"".to_owned()],
            metadata: metadata.as_object().unwrap().clone(),
        },
        hashes: LoraHashes {
            sha256: sha256_of(b"1"),
            blake3: Some(Blake3Digest::new([0x12; 32])),
            tensors_sha256: Some(Sha256Digest::new([0x34; 32])),
        },
    };

    let lora = h
        .ready_from(&alice, a_new_lora("a.safetensors"), details.clone())
        .await;

    assert_eq!(lora.status, LoraStatus::Ready);
    assert_eq!(lora.name, details.name);
    assert_eq!(lora.description, details.description);
    assert_eq!(lora.tags, details.tags);
    assert_eq!(lora.error, None);
    let content = lora.content.clone().unwrap();
    assert_eq!(content.file_size, details.file_size);
    assert_eq!(content.hashes, details.hashes);
    assert_eq!(content.version, LoraVersion::FIRST);
    assert_eq!(lora.superseded_at, None);
    assert_eq!(content.facts, details.facts);
    assert_eq!(h.get(&alice, lora.id).await, Some(lora));
}

/// Ready, failed and deleted LoRAs are reserved no more.
pub async fn only_a_reserved_lora_becomes_ready(h: &Harness) {
    let alice = an_actor();
    let ready = h.ready(&alice, "a.safetensors", b"1").await;
    let failed = h.failed(&alice, "b.safetensors").await;
    let deleted = h.reserved(&alice, "c.safetensors").await;
    h.deleted(&alice, deleted.id).await;
    for id in [ready.id, failed.id, deleted.id] {
        let again = h.loras.mark_ready(&alice, id, received(b"2")).await;
        assert_eq!(again.unwrap(), WriteOutcome::NotFound);
        let progress = h.loras.record_progress(&alice, id, 7).await.unwrap();
        assert!(!matches!(progress, WriteOutcome::Done(())));
    }
    assert_eq!(h.get(&alice, ready.id).await, Some(ready));
    assert_eq!(h.get(&alice, failed.id).await, Some(failed));
}

/// A failed LoRA stays for its owner to read why; a ready one does not fail.
pub async fn only_a_reserved_lora_is_given_up(h: &Harness) {
    let alice = an_actor();
    let failed = h.failed(&alice, "a.safetensors").await;
    assert_eq!(failed.status, LoraStatus::Failed);
    assert_eq!(failed.error, Some(a_failure()));
    assert_eq!(failed.content, None);
    assert_eq!(h.get(&alice, failed.id).await, Some(failed));

    let ready = h.ready(&alice, "b.safetensors", b"1").await;
    let outcome = h.loras.mark_failed(&alice, ready.id, a_failure()).await;
    assert!(!matches!(outcome.unwrap(), WriteOutcome::Done(_)));
    assert_eq!(h.get(&alice, ready.id).await, Some(ready));
}

/// To others a LoRA does not exist, whatever they ask.
pub async fn another_tenant_sees_and_changes_no_lora(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let reserved = h.reserved(&alice, "a.safetensors").await;
    let ready = h.ready(&alice, "b.safetensors", b"1").await;
    let names = vec![
        LoraName::Latest(reserved.filename.clone()),
        LoraName::Latest(ready.filename.clone()),
        LoraName::Version(ready.filename.clone(), LoraVersion::FIRST),
        LoraName::At(path_of(&ready)),
    ];
    for lora in [&reserved, &ready] {
        let id = lora.id;
        let progress = h.loras.record_progress(&bob, id, 1).await;
        let made_ready = h.loras.mark_ready(&bob, id, received(b"2")).await;
        let given_up = h.loras.mark_failed(&bob, id, a_failure()).await;
        let deleted = h.loras.delete(&bob, id).await;

        assert_eq!(h.get(&bob, id).await, None);
        assert_eq!(h.loras.versions(&bob, id).await.unwrap(), None);
        assert_eq!(progress.unwrap(), WriteOutcome::NotFound);
        assert_eq!(made_ready.unwrap(), WriteOutcome::NotFound);
        assert_eq!(given_up.unwrap(), WriteOutcome::NotFound);
        assert_eq!(deleted.unwrap(), WriteOutcome::NotFound);
        assert_eq!(h.get(&alice, id).await.as_ref(), Some(lora));
    }
    let found = h.loras.find_ready(&bob, names).await.unwrap();
    assert_eq!(found, []);
    let listed = h
        .loras
        .list(&bob, LoraFilter::default(), PageRequest::default())
        .await;
    assert_eq!(listed.unwrap().items, []);
}

/// Ids that nobody has are absent, not errors.
pub async fn an_absent_lora_is_not_found(h: &Harness) {
    let alice = an_actor();
    let id = LoraId::new(random_id());

    let ready = h.loras.mark_ready(&alice, id, received(b"1")).await;
    let failed = h.loras.mark_failed(&alice, id, a_failure()).await;
    let deleted = h.loras.delete(&alice, id).await;

    assert_eq!(h.get(&alice, id).await, None);
    assert_eq!(ready.unwrap(), WriteOutcome::NotFound);
    assert_eq!(failed.unwrap(), WriteOutcome::NotFound);
    assert_eq!(deleted.unwrap(), WriteOutcome::NotFound);
    assert!(!h.is_kept(id).await);
    h.loras.forget(id).await.unwrap();
}

/// Rows that are there, deleted and failed ones included, never share an
/// object, nor do those of names that look alike.
pub async fn no_two_loras_share_a_blob_key(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let mut keys = BTreeSet::new();
    for (round, owner) in [&alice, &bob, &alice, &alice].into_iter().enumerate() {
        let bytes = [u8::try_from(round).unwrap()];
        let lora = h.ready(owner, "a.safetensors", &bytes).await;
        assert!(keys.insert(lora.blob_key.clone()), "{keys:?}");
        assert!(!path_of(&lora).to_string().is_empty());
        h.deleted(owner, lora.id).await;
    }
    for _ in 0..2 {
        let lora = h.failed(&alice, "a.safetensors").await;
        assert!(keys.insert(lora.blob_key), "{keys:?}");
    }
}
