//! What is kept of uploads in pieces when something goes wrong.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atelier_application::loras::{
    ResumableError, ResumableUploads, UploadAppending, UploadLimits, UploadLoraError,
};
use atelier_domain::ids::LoraId;
use atelier_domain::lora::LoraStatus;
use atelier_domain::ports::{
    BlobError, BlobKey, BlobStat, BlobStore as _, BlobWriter, LoraUploads as _, MockBlobStore,
};
use atelier_testkit::build::safetensors_bytes;
use atelier_testkit::wait_until;
use bytes::Bytes;
use futures_util::FutureExt as _;

use crate::support::{Depot, LONG};

const NAME: &str = "a.safetensors";

async fn append(uploads: &ResumableUploads, depot: &Depot, id: LoraId, at: u64) -> UploadAppending {
    let appending = uploads.append(depot.actor.clone(), id, at, None);
    appending.await.unwrap()
}

/// One request that brings these bytes.
async fn send(depot: &Depot, id: LoraId, offset: u64, bytes: Bytes) -> u64 {
    let mut appending = append(&depot.resumable(), depot, id, offset).await;
    appending.write(bytes).await.unwrap();
    appending.finish().await.unwrap()
}

async fn offset_of(depot: &Depot, id: LoraId) -> u64 {
    let uploads = depot.resumable();
    uploads.get(&depot.actor, id).await.unwrap().offset
}

/// An upload of a good file, and the file.
async fn begun(depot: &Depot) -> (LoraId, Bytes) {
    let bytes = safetensors_bytes(1);
    let upload = depot.upload(NAME, bytes.len() as u64).await;
    (upload.lora_id, bytes)
}

/// Takes a second for each write and for its end.
struct SlowWriter(Box<dyn BlobWriter>);

async fn slowly() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}

#[async_trait]
impl BlobWriter for SlowWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        // What was handed over is on its way, whoever waits for it.
        self.0.write(bytes).await?;
        slowly().await;
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<BlobStat, BlobError> {
        slowly().await;
        self.0.finish().await
    }

    async fn abort(self: Box<Self>) -> Result<(), BlobError> {
        self.0.abort().await
    }
}

/// The same store, but slow.
fn into_a_slow_store(depot: &Depot) -> ResumableUploads {
    let (mut blobs, store) = (MockBlobStore::new(), depot.blobs.clone());
    blobs.expect_writer().returning(move |key: &BlobKey| {
        let writer = store.writer(key).now_or_never().unwrap()?;
        Ok(Box::new(SlowWriter(writer)))
    });
    ResumableUploads {
        blobs: Arc::new(blobs),
        ..depot.resumable()
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_while_its_bytes_are_kept_keeps_them() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    let mut appending = append(&into_a_slow_store(&depot), &depot, id, 0).await;
    appending.write(bytes.slice(..1_234)).await.unwrap();

    let given_up = tokio::time::timeout(Duration::from_millis(500), appending.finish()).await;

    assert!(given_up.is_err());
    wait_until("the bytes to be kept", LONG, async || {
        offset_of(&depot, id).await == 1_234
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_given_up_while_it_writes_keeps_what_the_store_has() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    let mut appending = append(&into_a_slow_store(&depot), &depot, id, 0).await;
    appending.write(bytes.slice(..1_000)).await.unwrap();
    let writing = appending.write(bytes.slice(1_000..1_500));

    let given_up = tokio::time::timeout(Duration::from_millis(500), writing).await;
    assert!(given_up.is_err());
    drop(appending);

    wait_until("the bytes to be kept", LONG, async || {
        offset_of(&depot, id).await == 1_500
    })
    .await;
    send(&depot, id, 1_500, bytes.slice(1_500..)).await;
    let serving = depot.serve();
    assert_eq!(depot.settled(id).await.status, LoraStatus::Ready);
    serving.stop().await;
}

#[tokio::test(start_paused = true)]
async fn of_two_that_append_at_once_one_wins_and_the_others_bytes_go() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    let uploads = depot.resumable();
    let mut one = append(&uploads, &depot, id, 0).await;
    let mut other = append(&uploads, &depot, id, 0).await;
    one.write(bytes.slice(..1_000)).await.unwrap();
    other.write(bytes.slice(..2_000)).await.unwrap();

    assert_eq!(one.finish().await.unwrap(), 1_000);
    let late = other.finish().await.unwrap_err();

    assert!(
        matches!(late, ResumableError::Elsewhere { offset: 1_000 }),
        "{late:?}"
    );
    let pieces = depot
        .store
        .uploads()
        .pieces(&depot.actor, id)
        .await
        .unwrap();
    let kept: Vec<_> = pieces.into_iter().map(|piece| piece.blob_key).collect();
    assert_eq!(depot.blobs.keys(), kept);
    assert_eq!(kept.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_off_keeps_what_came() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    let uploads = depot.resumable();
    let mut appending = append(&uploads, &depot, id, 0).await;
    appending.write(bytes.slice(..1_234)).await.unwrap();

    drop(appending);

    wait_until("the bytes to be kept", LONG, async || {
        offset_of(&depot, id).await == 1_234
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_long_request_is_kept_piece_by_piece() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    let uploads = depot.resumable();
    let mut appending = append(&uploads, &depot, id, 0).await;
    for piece in bytes.chunks(500).take(8) {
        appending
            .write(Bytes::copy_from_slice(piece))
            .await
            .unwrap();
    }

    // 3 000 bytes are a piece here.
    assert_eq!(offset_of(&depot, id).await, 3_000);
    assert_eq!(appending.finish().await.unwrap(), 4_000);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_in_the_middle_costs_only_what_was_on_its_way() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    let uploads = depot.resumable();
    let mut appending = append(&uploads, &depot, id, 0).await;
    appending.write(bytes.slice(..3_500)).await.unwrap();
    depot.blobs.outage().begin();

    let failed = appending.write(bytes.slice(3_500..)).await.unwrap_err();

    assert!(
        matches!(
            failed,
            ResumableError::Upload(UploadLoraError::Blob(BlobError::Unavailable(_)))
        ),
        "{failed:?}"
    );
    drop(appending);
    depot.blobs.outage().end();
    assert_eq!(offset_of(&depot, id).await, 3_500);
    send(&depot, id, 3_500, bytes.slice(3_500..)).await;
    let serving = depot.serve();
    assert_eq!(depot.settled(id).await.status, LoraStatus::Ready);
    serving.stop().await;
}

#[tokio::test(start_paused = true)]
async fn an_upload_in_too_many_pieces_goes_no_further_and_leaves_no_stray_object() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    let uploads = ResumableUploads {
        limits: UploadLimits {
            max_pieces: 2,
            ..UploadLimits::default()
        },
        ..depot.resumable()
    };
    for piece in 0..3_u64 {
        let at = usize::try_from(piece).unwrap() * 10;
        let mut appending = uploads
            .append(depot.actor.clone(), id, piece * 10, None)
            .await
            .unwrap();
        appending.write(bytes.slice(at..at + 10)).await.unwrap();
        let kept = appending.finish().await;
        if piece < 2 {
            kept.unwrap();
        } else {
            assert!(
                matches!(kept, Err(ResumableError::TooManyPieces { limit: 2 })),
                "{kept:?}"
            );
        }
    }
    assert_eq!(depot.blobs.keys().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn an_upload_whose_piece_is_lost_fails() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    send(&depot, id, 0, bytes.slice(..3_000)).await;
    send(&depot, id, 3_000, bytes.slice(3_000..)).await;
    let piece = depot.blobs.keys().remove(1);
    depot.blobs.delete(&piece).await.unwrap();
    let serving = depot.serve();

    let code = depot.failure(id).await;

    serving.stop().await;
    assert_eq!(code, "upload_damaged");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_bytes_changes_nothing() {
    let depot = Depot::new();
    let (id, bytes) = begun(&depot).await;
    send(&depot, id, 0, bytes.slice(..1_000)).await;

    assert_eq!(send(&depot, id, 1_000, Bytes::new()).await, 1_000);

    assert_eq!(depot.blobs.keys().len(), 1);
}
