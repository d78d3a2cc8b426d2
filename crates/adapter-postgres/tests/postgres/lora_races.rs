//! Whatever is done to one filename's LoRAs at the same time, nobody waits for ever, and one of them is the latest.

use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{LoraFailure, NewLora};
use atelier_domain::ports::{
    ImportOutcome, LoraRepo, LoraTransfers, LoraUploads, NewImport, WriteOutcome,
};
use atelier_postgres::PgStore;
use atelier_testkit::build::{
    EPOCH, a_remote_file, a_replacement, a_transfer_claim, an_actor, import_terms, received,
};
use futures_util::future::join_all;

use crate::support::{Database, Kind, scalar};

const FILENAME: &str = "a.safetensors";

/// Stores bytes over what is there.
async fn replace(store: &PgStore, owner: &Actor, bytes: u8) -> LoraId {
    let reserved = store.loras().reserve(owner, a_replacement(FILENAME)).await;
    let id = reserved.unwrap().id;
    let loras = store.loras();
    let ready = loras.mark_ready(owner, id, received(&[bytes % 5]));
    assert!(matches!(ready.await.unwrap(), WriteOutcome::Done(_)));
    id
}

async fn import(store: &PgStore, owner: &Actor, bytes: u8) {
    let file = a_remote_file();
    let new = NewImport {
        lora: NewLora {
            source: file.source.clone(),
            ..a_replacement(FILENAME)
        },
        file,
        held: None,
    };
    let begun = store.transfers().begin(owner, new, import_terms()).await;
    assert!(matches!(begun.unwrap(), ImportOutcome::Begun(_)));
    // It may be another one's that is claimed, and somebody may delete it meanwhile.
    let claimed = store.transfers().claim(a_transfer_claim()).await.unwrap();
    if let Some(claimed) = claimed {
        let transfers = store.transfers();
        let done = transfers.complete(claimed.lora.id, claimed.token, received(&[bytes % 5]));
        done.await.unwrap();
    }
}

async fn give_up(store: &PgStore, owner: &Actor) {
    let reserved = store.loras().reserve(owner, a_replacement(FILENAME)).await;
    let failure = LoraFailure {
        code: "not_safetensors".to_owned(),
        message: "no".to_owned(),
    };
    let id = reserved.unwrap().id;
    let failed = store.loras().mark_failed(owner, id, failure).await;
    assert!(matches!(failed.unwrap(), WriteOutcome::Done(_)));
}

/// An upload that is over before it begins.
async fn be_late(store: &PgStore, owner: &Actor) {
    let new = NewLora {
        bytes_total: Some(10),
        ..a_replacement(FILENAME)
    };
    let uploads = store.uploads();
    let created = uploads.create(owner, new, String::new(), EPOCH);
    created.await.unwrap();
}

async fn clean(store: &PgStore) {
    for upload in store.uploads().finished(100).await.unwrap() {
        store.uploads().forget(upload.lora_id).await.unwrap();
    }
    for lora in store.loras().due_for_cleaning(100).await.unwrap() {
        store.loras().forget(lora.id).await.unwrap();
    }
}

/// Each of these would fail with a deadlock if two locked in different orders.
#[tokio::test(flavor = "multi_thread")]
async fn everything_at_once_ends_with_one_latest_version() {
    let database = Arc::new(Database::new(Kind::Bare).await);
    let store = database.store();
    let alice = an_actor();
    let first = replace(&store, &alice, 0).await;
    let work = (0..48_u8).map(|count| {
        let (store, alice) = (store.clone(), alice.clone());
        tokio::spawn(async move {
            match count % 6 {
                0 => {
                    replace(&store, &alice, count).await;
                }
                1 => import(&store, &alice, count).await,
                2 => give_up(&store, &alice).await,
                3 => be_late(&store, &alice).await,
                4 => clean(&store).await,
                _ => {
                    let id = replace(&store, &alice, count).await;
                    // Gone already if somebody deleted a later one.
                    let _gone = store.loras().delete(&alice, id).await.unwrap();
                }
            }
        })
    });

    for outcome in join_all(work).await {
        outcome.unwrap();
    }

    let last = replace(&store, &alice, 1).await;
    let versions = store.loras().versions(&alice, last).await.unwrap().unwrap();
    assert_eq!(versions[0].id, last);
    let numbers: Vec<u32> = versions
        .iter()
        .filter_map(|lora| Some(lora.content.as_ref()?.version.number()))
        .collect();
    assert!(
        numbers.is_sorted_by(|one, other| one > other),
        "{numbers:?}"
    );
    let current = versions.iter().filter(|lora| lora.superseded_at.is_none());
    assert_eq!(current.count(), 1);
    assert_ne!(first, last);
    let admin = database.admin().await;
    let locks = "select count(*) from pg_locks where locktype = 'advisory'";
    assert_eq!(scalar(&admin, locks).await.as_deref(), Some("0"));
}
