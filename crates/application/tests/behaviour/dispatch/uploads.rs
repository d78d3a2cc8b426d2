//! What is left of uploads in pieces once they are over.

use std::time::Duration;

use atelier_domain::ids::LoraId;
use atelier_domain::lora::LoraStatus;
use atelier_domain::ports::{BlobKey, LoraRepo as _, LoraUploads as _};
use atelier_testkit::build::safetensors_bytes;
use atelier_testkit::wait_until;

use crate::support::{House, LONG, new_upload};

/// An upload of which so many bytes are there.
async fn upload(house: &House, filename: &str, bytes: usize) -> LoraId {
    let whole = safetensors_bytes(1);
    let uploads = house.resumable();
    let new = new_upload(filename, whole.len() as u64);
    let id = uploads.create(&house.actor, new).await.unwrap().lora_id;
    for piece in [0..bytes / 2, bytes / 2..bytes] {
        let offset = piece.start as u64;
        let mut appending = uploads
            .append(house.actor.clone(), id, offset, None)
            .await
            .unwrap();
        appending.write(whole.slice(piece)).await.unwrap();
        appending.finish().await.unwrap();
    }
    id
}

fn pieces_of(house: &House, id: LoraId) -> Vec<BlobKey> {
    let middle = format!("/uploads/{id}/");
    let keys = house.blobs.keys();
    keys.into_iter()
        .filter(|key| key.as_str().contains(&middle))
        .collect()
}

async fn until_cleaned(house: &House, id: LoraId) {
    wait_until("the pieces to go", LONG, async || {
        pieces_of(house, id).is_empty()
            && house.store.uploads().finished(10).await.unwrap().is_empty()
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn the_pieces_of_a_complete_upload_go_and_its_lora_stays() {
    let house = House::new();
    let whole = safetensors_bytes(1);
    let id = upload(&house, "a.safetensors", whole.len()).await;
    assert_eq!(pieces_of(&house, id).len(), 2);
    let worker = house.start();

    until_cleaned(&house, id).await;

    worker.stop().await;
    let lora = house.store.loras().get(&house.actor, id).await.unwrap();
    let lora = lora.unwrap();
    assert_eq!(lora.status, LoraStatus::Ready);
    assert_eq!(house.blobs.bytes_of(&lora.blob_key), Some(whole));
}

#[tokio::test(start_paused = true)]
async fn the_pieces_of_a_terminated_upload_go() {
    let house = House::new();
    let id = upload(&house, "a.safetensors", 2_000).await;
    house.resumable().terminate(&house.actor, id).await.unwrap();
    let worker = house.start();

    until_cleaned(&house, id).await;

    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_nobody_goes_on_with_fails_and_its_pieces_go() {
    let house = House::new();
    let id = upload(&house, "a.safetensors", 2_000).await;
    let worker = house.start();
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(pieces_of(&house, id).len(), 2, "it may still be continued");
    house.clock.advance(Duration::from_hours(25));

    until_cleaned(&house, id).await;

    worker.stop().await;
    let lora = house.store.loras().get(&house.actor, id).await.unwrap();
    let lora = lora.unwrap();
    assert_eq!(lora.status, LoraStatus::Failed);
    assert_eq!(lora.error.unwrap().code, "upload_expired");
}

#[tokio::test(start_paused = true)]
async fn pieces_that_cannot_be_deleted_now_go_later() {
    let house = House::new();
    let id = upload(&house, "a.safetensors", 2_000).await;
    house.resumable().terminate(&house.actor, id).await.unwrap();
    house.blobs.outage().begin();
    let worker = house.start();
    tokio::time::sleep(Duration::from_mins(10)).await;
    assert_eq!(pieces_of(&house, id).len(), 2);
    house.blobs.outage().end();

    until_cleaned(&house, id).await;

    worker.stop().await;
}
