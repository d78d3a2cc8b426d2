//! Uploads in pieces.

use std::time::Duration;

use atelier_application::loras::{LoraDetails, NewUpload, ResumableError, UploadLoraError};
use atelier_domain::ids::LoraId;
use atelier_domain::lora::LoraStatus;
use atelier_testkit::build::{an_actor, safetensors_bytes, sha256_of};
use bytes::Bytes;

use crate::support::{Depot, new_upload};

const NAME: &str = "a.safetensors";

/// One request that brings these bytes, to a process that has just begun.
async fn send(
    depot: &Depot,
    id: LoraId,
    offset: u64,
    bytes: impl Into<Bytes>,
) -> Result<u64, ResumableError> {
    let uploads = depot.resumable();
    let mut appending = uploads
        .append(depot.actor.clone(), id, offset, None)
        .await?;
    appending.write(bytes.into()).await?;
    appending.finish().await
}

async fn offset_of(depot: &Depot, id: LoraId) -> u64 {
    let uploads = depot.resumable();
    uploads.get(&depot.actor, id).await.unwrap().offset
}

async fn create(depot: &Depot, upload: NewUpload) -> Result<LoraId, UploadLoraError> {
    let uploads = depot.resumable();
    let created = uploads.create(&depot.actor, upload).await?;
    Ok(created.lora_id)
}

/// An upload of a good file, and the file.
async fn begun(depot: &Depot) -> (LoraId, Bytes) {
    let bytes = safetensors_bytes(1);
    let upload = depot.upload(NAME, bytes.len() as u64).await;
    (upload.lora_id, bytes)
}

#[tokio::test(start_paused = true)]
async fn pieces_of_any_size_become_a_ready_lora_whatever_restarts_meanwhile() {
    for sizes in [&[1, 7, 999, 4_000, 9_000][..], &[100_000]] {
        let depot = Depot::new();
        let (id, bytes) = begun(&depot).await;
        let mut rest = bytes.clone();
        for size in sizes {
            let piece = rest.split_to(rest.len().min(*size));
            let offset = (bytes.len() - rest.len() - piece.len()) as u64;
            assert_eq!(offset_of(&depot, id).await, offset);
            let end = send(&depot, id, offset, piece).await.unwrap();
            assert_eq!(end, (bytes.len() - rest.len()) as u64);
            // Between two requests hours may pass.
            tokio::time::sleep(Duration::from_hours(5)).await;
        }
        assert!(rest.is_empty());

        let serving = depot.serve();
        let lora = depot.settled(id).await;

        serving.stop().await;
        assert_eq!(lora.status, LoraStatus::Ready, "{lora:?}");
        assert_eq!(depot.blobs.bytes_of(&lora.blob_key), Some(bytes.clone()));
        let hashes = lora.content.unwrap().hashes;
        assert_eq!(hashes.sha256, sha256_of(&bytes));
        assert!(hashes.blake3.is_some() && hashes.tensors_sha256.is_some());
        let seen = depot.resumable().get(&depot.actor, id).await.unwrap();
        assert_eq!((seen.offset, seen.status), (seen.length, LoraStatus::Ready));
    }
}

#[tokio::test(start_paused = true)]
async fn bytes_for_another_place_are_told_where_the_upload_is() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    send(&depot, id, 0, bytes.slice(..1_000)).await.unwrap();

    for offset in [0, 999, 1_001, 10_000_000] {
        let refused = send(&depot, id, offset, "x").await.unwrap_err();

        assert!(
            matches!(refused, ResumableError::Elsewhere { offset: 1_000 }),
            "{refused:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn more_bytes_than_were_announced_are_refused() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    let length = bytes.len() as u64;
    let uploads = depot.resumable();

    let declared = uploads
        .append(depot.actor.clone(), id, 0, Some(length + 1))
        .await;
    assert!(
        matches!(&declared, Err(ResumableError::TooLong { length: told }) if *told == length),
        "{declared:?}"
    );
    let mut appending = uploads
        .append(depot.actor.clone(), id, 0, None)
        .await
        .unwrap();
    appending.write(bytes.slice(..4_000)).await.unwrap();
    let sent = appending.write(Bytes::from(vec![0; bytes.len()])).await;
    assert!(
        matches!(sent, Err(ResumableError::TooLong { .. })),
        "{sent:?}"
    );
    // What came before is not lost.
    assert_eq!(appending.finish().await.unwrap(), 4_000);
}

#[tokio::test(start_paused = true)]
async fn an_upload_that_nobody_goes_on_with_is_over() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    send(&depot, id, 0, bytes.slice(..1_000)).await.unwrap();
    tokio::time::sleep(Duration::from_hours(25)).await;

    let read = depot.resumable().get(&depot.actor, id).await;
    let sent = send(&depot, id, 1_000, "x").await;

    assert!(matches!(read, Err(ResumableError::Gone)), "{read:?}");
    assert!(matches!(sent, Err(ResumableError::Gone)), "{sent:?}");
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_no_lora_is_refused_by_its_first_bytes() {
    let depot = Depot::new();
    let (longer, bytes) = (
        depot.upload("longer.safetensors", 20_000).await.lora_id,
        safetensors_bytes(1),
    );
    let shorter = depot.upload("shorter.safetensors", 3_000).await.lora_id;
    let pickle = depot.upload("pickle.safetensors", 20_000).await.lora_id;
    for (id, head) in [
        (longer, bytes.slice(..2_000)),
        (shorter, bytes.slice(..2_000)),
        (pickle, Bytes::from_static(b"\x80\x04\x95\0\0\0\0\0\0\0")),
    ] {
        let refused = send(&depot, id, 0, head).await.unwrap_err();

        assert!(
            matches!(
                refused,
                ResumableError::Upload(UploadLoraError::NotSafetensors(_))
            ),
            "{refused:?}"
        );
        let gone = depot.resumable().get(&depot.actor, id).await;
        assert!(matches!(gone, Err(ResumableError::Gone)), "{gone:?}");
        assert_eq!(depot.failure(id).await, "not_safetensors");
    }
    assert!(depot.blobs.keys().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_terminated_upload_is_gone_and_a_complete_one_is_a_lora() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    let uploads = depot.resumable();
    send(&depot, id, 0, bytes.slice(..1_000)).await.unwrap();

    uploads.terminate(&depot.actor, id).await.unwrap();

    let gone = uploads.get(&depot.actor, id).await;
    assert!(matches!(gone, Err(ResumableError::NotFound)), "{gone:?}");
    let (id, bytes) = begun(&depot).await;
    send(&depot, id, 0, bytes.clone()).await.unwrap();
    let complete = uploads.terminate(&depot.actor, id).await;
    assert!(
        matches!(complete, Err(ResumableError::Complete)),
        "{complete:?}"
    );
    let more = send(&depot, id, bytes.len() as u64, "x").await;
    assert!(matches!(more, Err(ResumableError::Complete)), "{more:?}");
}

#[tokio::test(start_paused = true)]
async fn a_bad_upload_is_refused_before_a_place_is_kept() {
    let depot = Depot::new();
    let empty = create(&depot, new_upload(NAME, 0)).await.unwrap_err();
    let named = create(&depot, new_upload("../a.safetensors", 9))
        .await
        .unwrap_err();
    let described = NewUpload {
        details: LoraDetails {
            name: Some(" ".to_owned()),
            ..LoraDetails::default()
        },
        ..new_upload(NAME, 9)
    };
    let described = create(&depot, described).await.unwrap_err();
    for (refused, pointer) in [
        (empty, "/length"),
        (named, "/filename"),
        (described, "/name"),
    ] {
        let UploadLoraError::Invalid(violations) = refused else {
            panic!("{refused:?}")
        };
        assert_eq!(violations[0].pointer, pointer);
    }
    let large = create(&depot, new_upload(NAME, Depot::MAX_BYTES + 1)).await;
    assert!(
        matches!(
            large,
            Err(UploadLoraError::TooLarge {
                limit_bytes: Depot::MAX_BYTES
            })
        ),
        "{large:?}"
    );

    let (id, bytes) = begun(&depot).await;
    let underway = create(&depot, new_upload(NAME, 9)).await;
    assert!(
        matches!(
            underway,
            Err(UploadLoraError::FilenameTaken { existing: None })
        ),
        "{underway:?}"
    );
    send(&depot, id, 0, bytes).await.unwrap();
    let serving = depot.serve();
    depot.settled(id).await;
    serving.stop().await;
    let ready = create(&depot, new_upload(NAME, 9)).await;
    assert!(
        matches!(ready, Err(UploadLoraError::FilenameTaken { existing: Some(taken) }) if taken == id),
        "{ready:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_upload_is_not_there() {
    let depot = Depot::new();
    let (id, _) = begun(&depot).await;
    let stranger = an_actor();
    let uploads = depot.resumable();

    let read = uploads.get(&stranger, id).await;
    let sent = uploads.append(stranger.clone(), id, 0, None).await;
    let ended = uploads.terminate(&stranger, id).await;

    assert!(matches!(read, Err(ResumableError::NotFound)), "{read:?}");
    assert!(matches!(sent, Err(ResumableError::NotFound)), "{sent:?}");
    assert!(matches!(ended, Err(ResumableError::NotFound)), "{ended:?}");
}
