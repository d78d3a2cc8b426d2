use std::sync::Arc;
use std::time::Duration;

use atelier_application::sync::{CopyError, LoraSync, LoraSyncError};
use atelier_domain::ids::LoraId;
use atelier_domain::lora::Lora;
use atelier_domain::ports::{BlobError, BlobReader, ByteStream, LoraFolderError, MockBlobStore};
use atelier_testkit::build::safetensors_bytes;
use atelier_testkit::{FolderBackdoor as _, InMemoryLoraFolder, random_id};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::support::House;

fn sync_to(house: &House, folder: &InMemoryLoraFolder) -> LoraSync {
    house.sync(folder, Arc::new(house.blobs.clone()))
}

fn cause(error: &LoraSyncError) -> &CopyError {
    match error {
        LoraSyncError::Copy { cause, .. } => cause,
        other => panic!("not a copy's error: {other:?}"),
    }
}

async fn bring(sync: &LoraSync, lora: &Lora) -> Result<(), LoraSyncError> {
    let plan = sync.plan(&[lora.id]).await?;
    sync.carry_out(&plan, &|_done| {}).await
}

#[tokio::test(start_paused = true)]
async fn runs_that_need_the_same_file_share_one_copy() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let mut blobs = MockBlobStore::new();
    // A second reader would be a second copy.
    blobs.expect_reader().times(1).returning(|_, _| {
        let bytes = safetensors_bytes(1);
        Ok(BlobReader {
            size_bytes: bytes.len() as u64,
            bytes: slowly(bytes),
        })
    });
    let sync = house.sync(&house.folder, Arc::new(blobs));
    let plan = sync.plan(&[lora.id]).await.unwrap();
    assert!(!plan.is_complete());
    assert_eq!(plan.missing_bytes(), safetensors_bytes(1).len() as u64);

    let clone = sync.clone();
    let (given_up, first, second) = tokio::join!(
        // Whoever began the copy may go; it goes on for the others.
        tokio::time::timeout(Duration::from_millis(1), sync.carry_out(&plan, &|_done| {})),
        clone.carry_out(&plan, &|_done| {}),
        sync.carry_out(&plan, &|_done| {})
    );

    assert!(given_up.is_err());
    first.and(second).unwrap();
    assert_eq!(house.folder.installs(), 1);
    let path = lora.content.unwrap().comfyui_path.to_string();
    assert_eq!(house.folder.listed()[&path], safetensors_bytes(1));
    assert!(sync.plan(&[lora.id]).await.unwrap().is_complete());
}

/// The bytes in small pieces, some time apart.
fn slowly(bytes: Bytes) -> ByteStream<BlobError> {
    stream::unfold(bytes, async |mut rest| {
        tokio::time::sleep(Duration::from_millis(10)).await;
        let piece = rest.split_to(rest.len().min(1_000));
        (!piece.is_empty()).then_some((Ok(piece), rest))
    })
    .boxed()
}

#[tokio::test(start_paused = true)]
async fn a_file_of_the_right_name_is_not_enough() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let path = lora.content.clone().unwrap().comfyui_path;
    house.folder.overwrite(&path, b"something else");

    bring(&sync_to(&house, &house.folder), &lora).await.unwrap();

    assert_eq!(
        house.folder.listed()[&path.to_string()],
        safetensors_bytes(1)
    );
}

#[tokio::test(start_paused = true)]
async fn a_lora_that_nobody_has_is_missing() {
    let house = House::new();
    let unknown = LoraId::new(random_id());

    let refused = sync_to(&house, &house.folder).plan(&[unknown]).await;

    assert!(
        matches!(refused, Err(LoraSyncError::Missing(id)) if id == unknown),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn damaged_objects_are_not_installed() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let sync = sync_to(&house, &house.folder);

    house.blobs.put(&lora.blob_key, safetensors_bytes(2));
    let other_bytes = bring(&sync, &lora).await.unwrap_err();
    house
        .blobs
        .put(&lora.blob_key, safetensors_bytes(1).slice(1..));
    let other_size = bring(&sync, &lora).await.unwrap_err();
    atelier_domain::ports::BlobStore::delete(&house.blobs, &lora.blob_key)
        .await
        .unwrap();
    let gone = bring(&sync, &lora).await.unwrap_err();

    assert!(matches!(
        cause(&other_bytes),
        CopyError::Folder(LoraFolderError::WrongBytes { .. })
    ));
    assert!(matches!(cause(&other_size), CopyError::WrongSize { .. }));
    assert!(matches!(cause(&gone), CopyError::ObjectGone));
    for error in [other_bytes, other_size, gone] {
        assert!(!error.is_transient(), "{error:?}");
    }
    assert!(house.folder.listed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_full_disk_and_a_store_that_is_away_are_told_apart() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;

    let full = bring(
        &sync_to(&house, &InMemoryLoraFolder::with_capacity(10)),
        &lora,
    )
    .await
    .unwrap_err();
    house.blobs.outage().begin();
    let away = bring(&sync_to(&house, &house.folder), &lora)
        .await
        .unwrap_err();

    assert!(
        matches!(
            full,
            LoraSyncError::NeverFits {
                capacity_bytes: 10,
                ..
            }
        ),
        "{full:?}"
    );
    assert!(!full.is_transient());
    assert!(away.is_transient());
}

#[tokio::test(start_paused = true)]
async fn a_failed_copy_does_not_stick() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let sync = sync_to(&house, &house.folder);
    house.blobs.outage().begin();
    assert!(bring(&sync, &lora).await.is_err());
    house.blobs.outage().end();

    bring(&sync, &lora).await.unwrap();
}
