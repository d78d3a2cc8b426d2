//! Objects that no row knows.

use std::time::Duration;

use atelier_domain::ids::UserId;
use atelier_domain::ports::{BlobKey, BlobStore as _, Clock as _, LoraRepo as _};
use atelier_testkit::random_id;

use crate::support::{House, new_upload, plain_graph};

const MARKER: &str = "atelier/installation";

fn key(text: impl Into<String>) -> BlobKey {
    BlobKey::parse(text).unwrap()
}

/// Keys of every kind that we make, of somebody whom no row knows.
fn strangers() -> Vec<BlobKey> {
    let owner = UserId::new(random_id());
    vec![
        key(format!("user-{owner}/loras/x.safetensors")),
        key(format!("user-{owner}/runs/{}/0-x.png", random_id())),
        key(format!("user-{owner}/uploads/{}/0-1", random_id())),
        key(format!("user-{owner}/inputs/{}", random_id())),
    ]
}

/// Puts an object there as if it had been written so many days ago.
fn put(house: &House, key: &BlobKey, days: u64) {
    let at = house.clock.now() - Duration::from_hours(24 * days);
    house.blobs.put_at(key, "bytes", at);
}

fn has(house: &House, key: &BlobKey) -> bool {
    house.blobs.bytes_of(key).is_some()
}

/// Marks the store as the database's own.
async fn mark(house: &House) {
    let mine = house.store.loras().installation().await.unwrap();
    house.blobs.put(&key(MARKER), mine.to_string());
}

/// Lets a worker look for orphans once or twice.
async fn sweep(house: &House) {
    let worker = house.start();
    tokio::time::sleep(Duration::from_hours(2)).await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn old_objects_that_no_row_knows_go_from_a_store_of_ours() {
    let house = House::new();
    mark(&house).await;
    let (old, young) = (strangers(), strangers());
    for old in &old {
        put(&house, old, 8);
    }
    for young in &young {
        put(&house, young, 6);
    }

    sweep(&house).await;

    assert!(old.iter().all(|key| !has(&house, key)));
    assert!(young.iter().all(|key| has(&house, key)));
}

#[tokio::test(start_paused = true)]
async fn what_a_row_knows_stays_however_old() {
    let house = House::new();
    mark(&house).await;
    let lora = house.lora("a.safetensors", 1).await;
    let run = house.execute(&plain_graph()).await;
    let uploads = house.resumable();
    let new = new_upload("b.safetensors", 9_000);
    let upload = uploads.create(&house.actor, new).await.unwrap().lora_id;
    let own = house.actor.user_id();
    let known = [
        lora.blob_key,
        run.outputs[0].blob_key.clone(),
        key(format!("user-{own}/uploads/{upload}/0-1")),
    ];
    for known in &known {
        put(&house, known, 900);
    }
    let strange = strangers();
    put(&house, &strange[0], 900);

    sweep(&house).await;

    assert!(known.iter().all(|key| has(&house, key)), "{known:?}");
    assert!(!has(&house, &strange[0]));
}

#[tokio::test(start_paused = true)]
async fn keys_that_are_not_of_our_making_stay() {
    let house = House::new();
    mark(&house).await;
    let owner = random_id();
    let foreign = [
        key("backup/everything.tar"),
        key(format!("user-{owner}/notes/x.txt")),
        key("user-guide/loras/x.safetensors"),
        key(format!(
            "user-{}/loras/x.safetensors",
            owner.to_string().to_uppercase()
        )),
    ];
    for foreign in &foreign {
        put(&house, foreign, 900);
    }

    sweep(&house).await;

    assert!(foreign.iter().all(|key| has(&house, key)));
}

#[tokio::test(start_paused = true)]
async fn an_empty_store_becomes_ours() {
    let house = House::new();

    sweep(&house).await;

    let mine = house.store.loras().installation().await.unwrap();
    let marked = house.blobs.bytes_of(&key(MARKER)).unwrap();
    assert_eq!(marked, mine.to_string());
}

#[tokio::test(start_paused = true)]
async fn a_store_in_which_we_know_something_becomes_ours() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let strange = strangers();
    put(&house, &strange[0], 8);

    sweep(&house).await;

    assert!(has(&house, &key(MARKER)));
    assert!(has(&house, &lora.blob_key));
    assert!(!has(&house, &strange[0]));
}

#[tokio::test(start_paused = true)]
async fn an_unmarked_store_full_of_what_nobody_knows_is_left_alone() {
    let house = House::new();
    let strange = strangers();
    for strange in &strange {
        put(&house, strange, 900);
    }

    sweep(&house).await;

    assert!(strange.iter().all(|key| has(&house, key)));
    assert!(!has(&house, &key(MARKER)), "it is somebody's only copy");
}

#[tokio::test(start_paused = true)]
async fn another_databases_store_is_left_alone() {
    let house = House::new();
    house.lora("a.safetensors", 1).await;
    let strange = strangers();
    put(&house, &strange[0], 900);
    for mark in [random_id().to_string(), "x".repeat(5_000), String::new()] {
        house.blobs.put(&key(MARKER), mark.clone());

        sweep(&house).await;

        assert!(has(&house, &strange[0]));
        assert_eq!(house.blobs.bytes_of(&key(MARKER)).unwrap(), mark);
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_say_whose_it_is_loses_nothing() {
    let house = House::new();
    let strange = strangers();
    mark(&house).await;
    put(&house, &strange[0], 900);
    house.blobs.outage().begin();

    sweep(&house).await;

    house.blobs.outage().end();
    assert!(has(&house, &strange[0]));
    assert!(house.blobs.stat(&key(MARKER)).await.unwrap().is_some());
}
