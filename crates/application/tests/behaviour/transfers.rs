//! How the bytes of imports and uploads come home.

use std::sync::Arc;
use std::time::Duration;

use atelier_domain::lora::{Lora, LoraStatus};
use atelier_domain::ports::{
    LoraTransfers as _, MockRemoteSource, NewImport, RemoteError, RemoteFile, RemoteSource as _,
};
use atelier_testkit::build::{a_new_lora, import_terms, safetensors_bytes, sha256_of};
use bytes::Bytes;

use crate::support::{Depot, Serving};

const FILE: &str = "1AbCdEfGhIjKlMnOp";

fn depot_with(bytes: impl Into<Bytes>) -> Depot {
    let depot = Depot::new();
    depot.drive.put(FILE, "a.safetensors", bytes);
    depot
}

#[track_caller]
fn assert_home(depot: &Depot, lora: &Lora, bytes: &Bytes) {
    assert_eq!(lora.status, LoraStatus::Ready, "{lora:?}");
    let content = lora.content.as_ref().unwrap();
    assert_eq!(content.hashes.sha256, sha256_of(bytes));
    assert_eq!(content.file_size, bytes.len() as u64);
    assert_eq!(depot.blobs.bytes_of(&lora.blob_key).as_ref(), Some(bytes));
}

#[tokio::test(start_paused = true)]
async fn an_import_becomes_a_ready_lora_with_all_its_hashes() {
    let bytes = safetensors_bytes(1);
    let depot = depot_with(bytes.clone());
    let lora = depot.import(FILE).await;
    let serving = depot.serve();

    let ready = depot.settled(lora.id).await;

    serving.stop().await;
    assert_home(&depot, &ready, &bytes);
    assert_eq!(ready.bytes_done, bytes.len() as u64);
    let hashes = ready.content.unwrap().hashes;
    let data = usize::try_from(u64::from_le_bytes(bytes[..8].try_into().unwrap())).unwrap() + 8;
    assert_eq!(hashes.tensors_sha256, Some(sha256_of(&bytes[data..])));
    assert!(hashes.blake3.is_some());
    assert_eq!(depot.offsets(), [0]);
}

#[tokio::test(start_paused = true)]
async fn a_cut_stream_goes_on_where_it_broke_off() {
    let bytes = safetensors_bytes(1);
    let depot = depot_with(bytes.clone());
    for offset in [2_000, 2_000, 4_000] {
        depot.drive.break_next_download_at(FILE, offset);
    }
    let lora = depot.import(FILE).await;
    let serving = depot.serve();

    let ready = depot.settled(lora.id).await;

    serving.stop().await;
    assert_home(&depot, &ready, &bytes);
    assert_eq!(depot.offsets(), [0, 2_000, 2_000, 4_000]);
    assert_eq!(depot.transfers.ends(), ["complete"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stands_still_is_asked_for_again() {
    let bytes = safetensors_bytes(1);
    let depot = depot_with(bytes.clone());
    depot.drive.hold_downloads_at(2_042);
    let lora = depot.import(FILE).await;
    let serving = depot.serve();
    assert_eq!(depot.downloads(2).await, [0, 2_042]);

    depot.drive.release();

    let ready = depot.settled(lora.id).await;
    serving.stop().await;
    assert_home(&depot, &ready, &bytes);
}

#[tokio::test(start_paused = true)]
async fn a_source_without_ranges_begins_anew() {
    let bytes = safetensors_bytes(1);
    let depot = depot_with(bytes.clone());
    depot.drive.forget_ranges(FILE);
    depot.drive.break_next_download_at(FILE, 3_000);
    let lora = depot.import(FILE).await;
    let serving = depot.serve();

    let ready = depot.settled(lora.id).await;

    serving.stop().await;
    assert_home(&depot, &ready, &bytes);
    assert_eq!(depot.offsets(), [0, 3_000, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_file_of_which_nothing_is_told_comes_to_its_end() {
    let bytes = safetensors_bytes(1);
    let depot = depot_with(bytes.clone());
    depot.drive.tell(FILE, |file| {
        *file = RemoteFile {
            source: file.source.clone(),
            name: file.name.clone(),
            ..atelier_testkit::build::a_remote_file()
        };
    });
    let lora = depot.import(FILE).await;
    let serving = depot.serve();

    let ready = depot.settled(lora.id).await;

    serving.stop().await;
    assert_home(&depot, &ready, &bytes);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_while_it_comes_begins_anew_with_the_new_bytes() {
    let depot = depot_with(safetensors_bytes(1));
    depot.drive.hold_downloads_at(2_042);
    depot.drive.break_next_download_at(FILE, 3_000);
    let lora = depot.import(FILE).await;
    let serving = depot.serve();
    depot.downloads(1).await;

    depot.drive.change(FILE, safetensors_bytes(2));
    depot.drive.release();

    let ready = depot.settled(lora.id).await;
    serving.stop().await;
    assert_home(&depot, &ready, &safetensors_bytes(2));
    assert_eq!(depot.offsets(), [0, 3_000, 0]);
}

/// Begins an import without asking anybody about the file.
async fn begin(depot: &Depot, file: RemoteFile) -> Lora {
    let new = NewImport {
        lora: atelier_domain::lora::NewLora {
            source: file.source.clone(),
            ..a_new_lora("a.safetensors")
        },
        file,
        held: None,
    };
    let begun = depot.transfers.begin(&depot.actor, new, import_terms());
    match begun.await.unwrap() {
        atelier_domain::ports::ImportOutcome::Begun(lora) => *lora,
        other => panic!("not begun: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_changes_for_ever_is_given_up() {
    let depot = depot_with(safetensors_bytes(1));
    let file = depot.drive.metadata(FILE, None).await.unwrap();
    let fresh = file.clone();
    let mut drive = MockRemoteSource::new();
    drive
        .expect_metadata()
        .times(3)
        .returning(move |_, _| Ok(fresh.clone()));
    drive
        .expect_download()
        .times(4)
        .returning(|_, _, _| Err(RemoteError::Changed));
    let lora = begin(&depot, file).await;
    let serving = Serving::begin(depot.transferring_from(Arc::new(drive)));

    let code = depot.failure(lora.id).await;

    serving.stop().await;
    assert_eq!(code, "source_changed");
    assert!(depot.blobs.keys().is_empty());
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_not_those_that_were_told_are_refused() {
    let small = safetensors_bytes(1).len() as u64 - 8;
    let lies: [fn(&mut RemoteFile, u64); 3] = [
        |file, _| file.md5 = Some("0".repeat(32)),
        |file, _| file.sha256 = Some(sha256_of(b"other")),
        |file, small| file.size_bytes = Some(small),
    ];
    for (number, lie) in lies.into_iter().enumerate() {
        let depot = depot_with(safetensors_bytes(1));
        depot.drive.tell(FILE, |file| lie(file, small));
        let lora = depot.import(FILE).await;
        let serving = depot.serve();

        let code = depot.failure(lora.id).await;

        serving.stop().await;
        assert_eq!(code, "wrong_bytes", "{number}");
        assert!(depot.blobs.keys().is_empty(), "{number}");
        assert_eq!(depot.offsets(), [0], "{number}: tried again for nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_lora_is_refused_without_reading_on() {
    let mut pickle = b"\x80\x04\x95\0\0\0\0\0\0\0".to_vec();
    pickle.resize(100_000, 0);
    let depot = depot_with(pickle);
    // Whoever wanted more than the first bytes would wait for them in vain.
    depot.drive.hold_downloads_at(1_021);
    let lora = depot.import(FILE).await;
    let serving = depot.serve();

    let code = depot.failure(lora.id).await;

    serving.stop().await;
    assert_eq!(code, "not_safetensors");
    assert_eq!(depot.offsets(), [0]);
    assert!(depot.blobs.keys().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_turns_out_to_be_too_large_is_refused() {
    let header = r#"{"a":{"dtype":"U8","shape":[9000000],"data_offsets":[0,9000000]}}"#;
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len() + 9_000_000, 0);
    let depot = depot_with(bytes);
    depot.drive.tell(FILE, |file| file.size_bytes = None);
    depot.drive.hold_downloads_at(1_021);
    let lora = depot.import(FILE).await;
    let serving = depot.serve();

    let code = depot.failure(lora.id).await;

    serving.stop().await;
    assert_eq!(code, "too_large");
}

#[tokio::test(start_paused = true)]
async fn what_the_source_says_ends_the_transfer_in_the_owners_words() {
    for (error, expected) in [
        (RemoteError::NotFound("gone".to_owned()), "source_not_found"),
        (RemoteError::Refused("never".to_owned()), "source_refused"),
        (
            RemoteError::Unauthorized("no".to_owned()),
            "source_unauthorized",
        ),
        (
            RemoteError::NotConfigured("key".to_owned()),
            "source_not_configured",
        ),
    ] {
        let depot = depot_with(safetensors_bytes(1));
        depot.drive.fail_next_download(error);
        let lora = depot.import(FILE).await;
        let serving = depot.serve();

        assert_eq!(depot.failure(lora.id).await, expected);

        serving.stop().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_source_that_stays_away_is_asked_ever_more_seldom_and_given_up_at_last() {
    let depot = depot_with(safetensors_bytes(1));
    let lora = depot.import(FILE).await;
    depot.drive.outage().begin();
    let serving = depot.serve();

    let code = depot.failure(lora.id).await;

    serving.stop().await;
    assert_eq!(code, "source_unavailable");
    assert_eq!(
        depot.transfers.pauses(),
        [10, 20, 40, 80, 160, 320, 640, 640, 640]
    );
}

#[tokio::test(start_paused = true)]
async fn a_source_that_says_when_to_come_again_is_believed() {
    let depot = depot_with(safetensors_bytes(1));
    let lora = depot.import(FILE).await;
    let busy = || RemoteError::Unavailable {
        retry_after: Some(Duration::from_secs(50)),
        source: "too many requests".into(),
    };
    for _ in 0..4 {
        depot.drive.fail_next_download(busy());
    }
    let serving = depot.serve();

    let ready = depot.settled(lora.id).await;

    serving.stop().await;
    assert_eq!(ready.status, LoraStatus::Ready);
    // Three waits are as long as we go on at one place; then it is put off for as long as told.
    assert_eq!(depot.transfers.pauses(), [50]);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_puts_the_transfer_off() {
    let depot = depot_with(safetensors_bytes(1));
    let lora = depot.import(FILE).await;
    depot.blobs.outage().begin();
    let serving = depot.serve();
    tokio::time::sleep(Duration::from_secs(15)).await;
    assert_eq!(depot.transfers.pauses(), [10, 20]);
    depot.blobs.outage().end();

    let ready = depot.settled(lora.id).await;

    serving.stop().await;
    assert_home(&depot, &ready, &safetensors_bytes(1));
}
