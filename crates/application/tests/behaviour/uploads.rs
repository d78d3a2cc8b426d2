use std::sync::Arc;

use atelier_application::loras::{LoraDetails, UploadLora, UploadLoraError};
use atelier_domain::lora::{LoraFilter, LoraStatus};
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{
    BlobError, BlobKey, LoraRepo as _, MockBlobStore, MockBlobWriter, MockLoraRepo, RepoError,
    WriteOutcome,
};
use atelier_testkit::build::{safetensors_bytes, sha256_of};
use atelier_testkit::wait_until;
use bytes::Bytes;

use crate::support::{House, LONG, new_lora};

/// The statuses of all the actor's LoRAs, newest first, with their errors.
async fn shelf(house: &House) -> Vec<(LoraStatus, Option<String>)> {
    let page = house
        .store
        .loras()
        .list(&house.actor, LoraFilter::default(), PageRequest::default())
        .await
        .unwrap();
    page.items
        .into_iter()
        .map(|lora| (lora.status, lora.error.map(|error| error.code)))
        .collect()
}

async fn begin(house: &House) -> atelier_application::loras::LoraUpload {
    house
        .uploads()
        .begin(house.actor.clone(), "a.safetensors", None, false)
        .await
        .unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_file_that_comes_in_small_pieces_becomes_a_ready_lora() {
    let house = House::new();
    let bytes = safetensors_bytes(1);
    let mut upload = begin(&house).await;
    for piece in bytes.chunks(7) {
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
        assert!(
            house.blobs.keys().is_empty(),
            "an object is visible before it is whole"
        );
    }

    let lora = new_lora(upload.finish(LoraDetails::default()).await.unwrap());

    assert_eq!(lora.status, LoraStatus::Ready);
    assert_eq!(lora.name.as_str(), "a");
    let content = lora.content.unwrap();
    assert_eq!(content.hashes.sha256, sha256_of(&bytes));
    assert_eq!(
        content.facts.trigger_words.first().map(String::as_str),
        Some("trigger_word")
    );
    assert_eq!(house.blobs.bytes_of(&lora.blob_key), Some(bytes));
}

#[tokio::test(start_paused = true)]
async fn a_bad_file_is_refused_with_its_first_bytes_and_leaves_its_name_free() {
    let house = House::new();
    let mut upload = begin(&house).await;

    let refused = upload
        .write(Bytes::from_static(b"\x80\x04\x95\0\0\0\0\0\0\0"))
        .await
        .unwrap_err();

    let UploadLoraError::NotSafetensors(reason) = refused else {
        panic!("{refused:?}")
    };
    assert!(reason.contains("pickle"), "{reason}");
    assert!(house.blobs.keys().is_empty());
    assert_eq!(
        shelf(&house).await,
        [(LoraStatus::Failed, Some("not_safetensors".to_owned()))]
    );
    assert!(upload.write(Bytes::from_static(b"more")).await.is_err());
    drop(upload);
    house.lora("a.safetensors", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_cut_short_is_refused() {
    let house = House::new();
    let bytes = safetensors_bytes(1);
    for end in [0, 5, 100, bytes.len() - 1] {
        let mut upload = begin(&house).await;
        upload.write(bytes.slice(..end)).await.unwrap();

        let refused = upload.finish(LoraDetails::default()).await.unwrap_err();

        assert!(
            matches!(refused, UploadLoraError::NotSafetensors(_)),
            "{end}: {refused:?}"
        );
        assert!(house.blobs.keys().is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_after_the_end_are_refused_before_the_rest_comes() {
    let house = House::new();
    let mut upload = begin(&house).await;
    upload.write(safetensors_bytes(1)).await.unwrap();

    let refused = upload.write(Bytes::from_static(b"x")).await.unwrap_err();

    assert!(
        matches!(refused, UploadLoraError::NotSafetensors(_)),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_too_large_is_refused_as_soon_as_that_is_known() {
    let house = House::new();
    let uploads = UploadLora {
        max_bytes: 1_000,
        ..house.uploads()
    };

    let declared = uploads
        .begin(house.actor.clone(), "a.safetensors", Some(1_001), false)
        .await;
    assert!(
        matches!(
            declared,
            Err(UploadLoraError::TooLarge { limit_bytes: 1_000 })
        ),
        "{declared:?}"
    );
    assert_eq!(shelf(&house).await, []);

    // The header says how long the file is going to be.
    let mut upload = uploads
        .begin(house.actor.clone(), "a.safetensors", None, false)
        .await
        .unwrap();
    let announced = upload.write(safetensors_bytes(1).slice(..900)).await;
    assert!(
        matches!(announced, Err(UploadLoraError::TooLarge { .. })),
        "{announced:?}"
    );
    assert_eq!(
        shelf(&house).await,
        [(LoraStatus::Failed, Some("too_large".to_owned()))]
    );
}

#[tokio::test(start_paused = true)]
async fn bad_details_are_told_at_once_and_leave_nothing() {
    let house = House::new();
    let mut upload = begin(&house).await;
    upload.write(safetensors_bytes(1)).await.unwrap();
    let details = LoraDetails {
        name: Some(" ".to_owned()),
        description: Some("a\0".to_owned()),
        tags: vec!["a,b".to_owned()],
    };

    let refused = upload.finish(details).await.unwrap_err();

    let UploadLoraError::Invalid(violations) = refused else {
        panic!("{refused:?}")
    };
    let pointers: Vec<&str> = violations
        .iter()
        .map(|fault| fault.pointer.as_str())
        .collect();
    assert_eq!(pointers, ["/name", "/description", "/tags/0"]);
    assert!(house.blobs.keys().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_bad_filename_reserves_nothing() {
    let house = House::new();
    for name in ["../a.safetensors", "a.ckpt", ".safetensors", ""] {
        let refused = house
            .uploads()
            .begin(house.actor.clone(), name, None, false)
            .await
            .unwrap_err();

        let UploadLoraError::Invalid(violations) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(violations[0].pointer, "/file");
    }
    assert_eq!(shelf(&house).await, []);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_breaks_off_gives_its_place_up() {
    let house = House::new();
    let mut upload = begin(&house).await;
    upload
        .write(safetensors_bytes(1).slice(..100))
        .await
        .unwrap();

    upload.abort().await;

    assert_eq!(
        shelf(&house).await,
        [(LoraStatus::Failed, Some("upload_interrupted".to_owned()))]
    );
    house.lora("a.safetensors", 1).await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_is_dropped_gives_its_place_up() {
    let house = House::new();
    let upload = begin(&house).await;

    drop(upload);

    wait_until("the place to be given up", LONG, async || {
        shelf(&house).await == [(LoraStatus::Failed, Some("upload_interrupted".to_owned()))]
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_store_that_goes_away_fails_the_upload_and_frees_the_name() {
    let house = House::new();
    let mut upload = begin(&house).await;
    house.blobs.outage().begin();

    let failed = upload.write(safetensors_bytes(1)).await.unwrap_err();

    assert!(
        matches!(failed, UploadLoraError::Blob(BlobError::Unavailable(_))),
        "{failed:?}"
    );
    assert_eq!(
        shelf(&house).await,
        [(LoraStatus::Failed, Some("storage_failed".to_owned()))]
    );
    house.blobs.outage().end();
    house.lora("a.safetensors", 1).await;
}

#[tokio::test(start_paused = true)]
async fn a_lora_that_is_deleted_while_it_comes_does_not_come_back() {
    let house = House::new();
    let mut upload = begin(&house).await;
    upload.write(safetensors_bytes(1)).await.unwrap();
    let page = house
        .store
        .loras()
        .list(&house.actor, LoraFilter::default(), PageRequest::default())
        .await
        .unwrap();
    let deleted = house
        .store
        .loras()
        .delete(&house.actor, page.items[0].id)
        .await
        .unwrap();
    assert_eq!(deleted, WriteOutcome::Done(()));

    let refused = upload.finish(LoraDetails::default()).await.unwrap_err();

    assert!(
        matches!(refused, UploadLoraError::ReservationLost),
        "{refused:?}"
    );
    assert_eq!(shelf(&house).await, []);
}

#[tokio::test(start_paused = true)]
async fn the_last_write_survives_a_database_that_is_away_for_a_moment() {
    let house = House::new();
    let mut upload = begin(&house).await;
    upload.write(safetensors_bytes(1)).await.unwrap();
    house.store.outage().begin();

    let (finished, ()) = tokio::join!(upload.finish(LoraDetails::default()), async {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        house.store.outage().end();
    });

    assert_eq!(new_lora(finished.unwrap()).status, LoraStatus::Ready);
}

#[tokio::test(start_paused = true)]
async fn a_slow_upload_keeps_its_place_alive() {
    let house = House::new();
    let reserved = house
        .store
        .loras()
        .reserve(
            &house.actor,
            atelier_testkit::build::a_new_lora("a.safetensors"),
        )
        .await
        .unwrap();
    let mut loras = MockLoraRepo::new();
    loras.expect_reserve().return_once(move |_, _| Ok(reserved));
    loras
        .expect_record_progress()
        .times(3)
        .returning(|_, _, _| Err(RepoError::Unavailable("away".into())));
    loras
        .expect_mark_failed()
        .times(1)
        .returning(|_, _, _| Ok(WriteOutcome::NotFound));
    let uploads = UploadLora {
        loras: Arc::new(loras),
        ..house.uploads()
    };
    let bytes = safetensors_bytes(1);
    let mut upload = uploads
        .begin(house.actor.clone(), "a.safetensors", None, false)
        .await
        .unwrap();

    for piece in bytes.chunks(bytes.len().div_ceil(3)) {
        tokio::time::advance(std::time::Duration::from_secs(3)).await;
        upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }

    upload.abort().await;
}

#[tokio::test(start_paused = true)]
async fn a_refused_file_is_aborted_in_the_store() {
    let house = House::new();
    let mut blobs = MockBlobStore::new();
    blobs.expect_writer().times(1).returning(|_: &BlobKey| {
        let mut writer = MockBlobWriter::new();
        // Not one byte of a bad file is written, and nothing is finished.
        writer.expect_abort().times(1).returning(|| Ok(()));
        Ok(Box::new(writer))
    });
    let uploads = UploadLora {
        blobs: Arc::new(blobs),
        ..house.uploads()
    };
    let mut upload = uploads
        .begin(house.actor.clone(), "a.safetensors", None, false)
        .await
        .unwrap();

    assert!(
        upload
            .write(Bytes::from_static(b"<!DOCTYPE html>"))
            .await
            .is_err()
    );
}
