use atelier_domain::digest::Sha256Digest;
use atelier_domain::lora::{LoraFilename, LoraHashes, LoraPath, ReceivedLora};
use atelier_domain::ports::WriteOutcome;

use super::{Harness, latest, path_of};
use crate::build::{a_new_lora, an_actor, hashes_of, received, sha256_of};

fn filename(text: &str) -> LoraFilename {
    LoraFilename::parse(text).expect("the case gives a good name")
}

/// `user-{uuid}/{filename}`.
pub async fn the_first_bytes_get_the_plain_path(h: &Harness) {
    let alice = an_actor();

    let lora = h.ready(&alice, "Style 1.safetensors", b"1").await;

    let expected = format!("user-{}/Style 1.safetensors", alice.user_id());
    assert_eq!(path_of(&lora).to_string(), expected);
}

/// `user-{uuid}/{stem}.{first 8 of sha256}.safetensors`, also after the first
/// was deleted and forgotten.
pub async fn other_bytes_get_a_path_of_their_own(h: &Harness) {
    let alice = an_actor();
    let first = h.ready(&alice, "a.safetensors", b"1").await;
    for bytes in [b"2", b"3"] {
        let in_the_way = h.loras.find_ready(&alice, vec![latest("a.safetensors")]);
        for lora in in_the_way.await.unwrap() {
            h.deleted(&alice, lora.id).await;
        }

        let next = h.ready(&alice, "a.safetensors", bytes).await;

        let digest = sha256_of(bytes);
        let owner = alice.user_id();
        let expected = LoraPath::versioned(owner, &filename("a.safetensors"), &digest);
        assert_eq!(path_of(&next), expected);
        assert_ne!(path_of(&next), path_of(&first));
    }
}

/// Bytes that come again get the path that they had, first or versioned.
pub async fn the_same_bytes_again_get_their_old_path(h: &Harness) {
    let alice = an_actor();
    let mut paths = Vec::new();
    for bytes in [b"1", b"2", b"1", b"2"] {
        let lora = h.ready(&alice, "a.safetensors", bytes).await;
        paths.push(path_of(&lora));
        h.deleted(&alice, lora.id).await;
    }

    assert_eq!(paths.first(), paths.get(2));
    assert_eq!(paths.get(1), paths.get(3));
    assert_ne!(paths.first(), paths.get(1));
}

/// A path is remembered even when nothing else of the LoRA is.
pub async fn a_path_outlives_every_row(h: &Harness) {
    let alice = an_actor();
    let first = h.ready(&alice, "a.safetensors", b"1").await;
    h.deleted(&alice, first.id).await;
    h.loras.forget(first.id).await.unwrap();
    assert!(!h.is_kept(first.id).await);

    let other = h.ready(&alice, "a.safetensors", b"2").await;
    assert_ne!(path_of(&other), path_of(&first));
    h.deleted(&alice, other.id).await;
    h.loras.forget(other.id).await.unwrap();

    let again = h.ready(&alice, "a.safetensors", b"1").await;
    assert_eq!(path_of(&again), path_of(&first));
}

/// Bytes that never became ready were never on a backend.
pub async fn a_failed_upload_takes_no_path(h: &Harness) {
    let alice = an_actor();
    h.failed(&alice, "a.safetensors").await;

    let lora = h.ready(&alice, "a.safetensors", b"1").await;

    let expected = LoraPath::first(alice.user_id(), &filename("a.safetensors"));
    assert_eq!(path_of(&lora), expected);
}

/// A file that is called like another one's version keeps its path: whatever
/// becomes of the other one, it does not get that path.
pub async fn a_version_path_that_is_taken_is_not_given_again(h: &Harness) {
    let alice = an_actor();
    let digest = Sha256Digest::new([0xab; 32]);
    let squatter = h.ready(&alice, "a.abababab.safetensors", b"1").await;
    let first = h.ready(&alice, "a.safetensors", b"2").await;
    h.deleted(&alice, first.id).await;

    let third = h
        .loras
        .reserve(&alice, a_new_lora("a.safetensors"))
        .await
        .unwrap();
    let details = ReceivedLora {
        hashes: LoraHashes {
            sha256: digest,
            ..hashes_of(b"3")
        },
        ..received(b"3")
    };
    let outcome = h.loras.mark_ready(&alice, third.id, details).await;

    if let Ok(WriteOutcome::Done(lora)) = outcome {
        assert_ne!(path_of(&lora), path_of(&squatter));
        assert_ne!(path_of(&lora), path_of(&first));
    }
    let kept = h.get(&alice, squatter.id).await.unwrap();
    assert_eq!(path_of(&kept), path_of(&squatter));
}

/// Each tenant's paths are below a folder of their own, same bytes or not.
pub async fn tenants_do_not_share_paths(h: &Harness) {
    for owner in [an_actor(), an_actor()] {
        let lora = h.ready(&owner, "a.safetensors", b"1").await;

        let expected = LoraPath::first(owner.user_id(), &filename("a.safetensors"));
        assert_eq!(path_of(&lora), expected);
    }
}

/// Uploads under different names that want one path at the same time do not
/// both get it.
pub async fn of_two_uploads_at_once_none_gets_the_others_path(h: &Harness) {
    let alice = an_actor();
    let owner = alice.user_id();
    let digest = Sha256Digest::new([0xcd; 32]);
    let old = h.ready(&alice, "a.safetensors", b"1").await;
    h.deleted(&alice, old.id).await;
    let versioned = h.reserved(&alice, "a.safetensors").await;
    let namesake = h.reserved(&alice, "a.cdcdcdcd.safetensors").await;
    let details = ReceivedLora {
        hashes: LoraHashes {
            sha256: digest,
            ..hashes_of(b"2")
        },
        ..received(b"2")
    };

    let (first, second) = tokio::join!(
        h.loras.mark_ready(&alice, versioned.id, details),
        h.loras.mark_ready(&alice, namesake.id, received(b"3")),
    );

    let path = |outcome| match outcome {
        Ok(WriteOutcome::Done(lora)) => Some(path_of(&lora)),
        _ => None,
    };
    let (first, second) = (path(first), path(second));
    assert!(first.is_some() || second.is_some(), "one of them gets it");
    assert_ne!(first, second);
    for path in [first, second].into_iter().flatten() {
        assert_eq!(path.owner(), owner);
    }
}
