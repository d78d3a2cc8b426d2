//! A path on a backend never stands for other bytes, however file names are chosen.

use std::collections::BTreeMap;

use atelier_domain::actor::Actor;
use atelier_domain::digest::Sha256Digest;
use atelier_domain::lora::Lora;
use atelier_domain::ports::{LoraRepo, WriteOutcome};
use atelier_postgres::PgLoraRepo;
use atelier_testkit::build::{a_new_lora, an_actor, received, sha256_of};

use crate::support::{Database, Kind};

async fn stored(loras: &PgLoraRepo, owner: &Actor, filename: &str, bytes: &[u8]) -> Lora {
    let reserved = loras.reserve(owner, a_new_lora(filename)).await.unwrap();
    match loras
        .mark_ready(owner, reserved.id, received(bytes))
        .await
        .unwrap()
    {
        WriteOutcome::Done(lora) => lora,
        other => panic!("{other:?}"),
    }
}

/// The later content's own path is what somebody called another file: so it gets a third.
#[tokio::test(flavor = "multi_thread")]
async fn a_versioned_name_that_is_taken_gives_way_to_a_third() {
    let database = Database::shared(Kind::Bare).await;
    let loras = database.store().loras();
    let alice = an_actor();
    let mut contents: BTreeMap<String, Sha256Digest> = BTreeMap::new();
    let taken = format!("style.{}.safetensors", sha256_of(b"second").short8());
    for (filename, bytes) in [
        (taken.as_str(), b"squatter".as_slice()),
        ("style.safetensors", b"first"),
        ("style.safetensors", b"second"),
        ("style.safetensors", b"first"),
        ("style.safetensors", b"second"),
    ] {
        let lora = stored(&loras, &alice, filename, bytes).await;

        let content = lora.content.unwrap();
        assert_eq!(content.comfyui_path.owner(), alice.user_id());
        let path = content.comfyui_path.to_string();
        let known = contents
            .entry(path.clone())
            .or_insert(content.hashes.sha256);
        assert_eq!(
            *known, content.hashes.sha256,
            "{path} stands for other bytes now"
        );
        if filename == "style.safetensors" {
            assert_eq!(
                loras.delete(&alice, lora.id).await.unwrap(),
                WriteOutcome::Done(())
            );
        }
    }
}
