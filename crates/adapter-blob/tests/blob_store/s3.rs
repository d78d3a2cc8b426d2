//! What is true of S3 alone, against a real server.

use std::error::Error;
use std::time::Duration;

use atelier_blob::BlobOptions;
use atelier_domain::ports::{BlobError, BlobKey, BlobStore};
use bytes::Bytes;
use futures_util::StreamExt;

use crate::support::{PART_BYTES, get, key, open, pattern, put, s3, s3_options, wait_until};

const HELD_AT_MOST: usize = 64 * 1024 * 1024;

#[tokio::test]
async fn a_prefix_stands_before_every_key() {
    let harness = s3();
    let double = harness.double.as_ref().unwrap();
    let below = open(BlobOptions {
        url: format!("s3://{}/site/a", double.bucket()),
        ..s3_options(double)
    });

    put(&below, &key("x"), &Bytes::from_static(b"1")).await;

    assert_eq!(get(&harness.blobs, &key("site/a/x"), None).await, b"1");
    assert_eq!(harness.blobs.stat(&key("x")).await.unwrap(), None);
    put(&harness.blobs, &key("site/ab"), &Bytes::from_static(b"2")).await;
    let listed = below.list("", None, 10).await.unwrap();
    let keys: Vec<_> = listed.iter().map(|entry| entry.key.as_str()).collect();
    assert_eq!(keys, ["x"]);
    assert_eq!(below.list("", Some(key("x")), 10).await.unwrap(), []);
}

#[tokio::test]
async fn anybody_may_read_at_a_signed_address() {
    let harness = s3();
    let key = key("user-1/ä b#1.png");
    put(&harness.blobs, &key, &Bytes::from_static(b"picture")).await;

    let url = harness
        .blobs
        .signed_url(&key, Duration::from_mins(1))
        .await
        .unwrap()
        .unwrap();

    assert_eq!(
        reqwest::get(&url).await.unwrap().text().await.unwrap(),
        "picture"
    );
    let plain = url.split('?').next().unwrap();
    assert_eq!(reqwest::get(plain).await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_signed_address_holds_for_a_week_at_most() {
    let harness = s3();

    let refused = harness
        .blobs
        .signed_url(&key("x"), Duration::from_hours(7 * 24 + 1))
        .await;

    assert!(matches!(refused, Err(BlobError::Backend(_))));
}

#[tokio::test]
async fn a_bucket_that_does_not_exist_is_refused() {
    let harness = s3();
    let double = harness.double.as_ref().unwrap();
    let blobs = open(BlobOptions {
        url: "s3://nowhere".to_owned(),
        ..s3_options(double)
    });

    let small = blobs.writer(&key("x")).await.unwrap().finish().await;
    let large = blobs
        .writer(&key("x"))
        .await
        .unwrap()
        .write(pattern(PART_BYTES))
        .await;

    assert!(matches!(blobs.check().await, Err(BlobError::Refused(_))));
    assert!(matches!(
        blobs.reader(&key("x"), None).await,
        Err(BlobError::Refused(_))
    ));
    assert!(matches!(small, Err(BlobError::Refused(_))), "{small:?}");
    assert!(matches!(large, Err(BlobError::Refused(_))), "{large:?}");
}

#[tokio::test]
async fn wrong_keys_are_refused_and_not_told() {
    let harness = s3();
    let double = harness.double.as_ref().unwrap();
    let wrong = "a-very-wrong-secret";
    let blobs = open(BlobOptions {
        secret_key: Some(wrong.to_owned()),
        ..s3_options(double)
    });

    let error = blobs.check().await.unwrap_err();

    assert!(matches!(error, BlobError::Refused(_)), "{error:?}");
    let told = format!("{error} {error:?} {:?} {blobs:?}", error.source());
    assert!(
        !told.contains(wrong) && !told.contains(double.access_key()),
        "{told}"
    );
}

#[tokio::test]
async fn a_server_that_is_down_is_unavailable() {
    let harness = s3();
    let options = s3_options(harness.double.as_ref().unwrap());
    drop(harness);

    let error = open(options).check().await.unwrap_err();

    assert!(matches!(error, BlobError::Unavailable(_)), "{error:?}");
}

#[tokio::test]
async fn statuses_have_meanings() {
    let harness = s3();
    let gate = harness.double.as_ref().unwrap().gate();
    for (status, is_expected) in [
        (
            503,
            (|error| matches!(error, BlobError::Unavailable(_))) as fn(&BlobError) -> bool,
        ),
        (507, |error| matches!(error, BlobError::Full(_))),
        (403, |error| matches!(error, BlobError::Refused(_))),
        (401, |error| matches!(error, BlobError::Refused(_))),
        (418, |error| matches!(error, BlobError::Backend(_))),
    ] {
        gate.fail_with(Some(status));
        let error = harness
            .blobs
            .writer(&key("x"))
            .await
            .unwrap()
            .finish()
            .await
            .unwrap_err();
        assert!(is_expected(&error), "{status}: {error:?}");
    }
    gate.fail_with(None);
    assert_eq!(harness.blobs.stat(&key("x")).await.unwrap(), None);
}

#[tokio::test]
async fn an_aborted_upload_leaves_no_parts_in_the_bucket() {
    let harness = s3();
    let root = harness.double.as_ref().unwrap().folder();
    let mut writer = harness.blobs.writer(&key("x")).await.unwrap();
    writer.write(pattern(3 * PART_BYTES)).await.unwrap();
    wait_until("the parts did not arrive", || {
        bytes_below(root) >= 3 * PART_BYTES as u64
    })
    .await;

    writer.abort().await.unwrap();

    assert!(
        bytes_below(root) < 1_000_000,
        "{} bytes are left",
        bytes_below(root)
    );
}

#[tokio::test]
async fn a_writer_holds_no_more_than_its_share_when_the_server_stalls() {
    let harness = s3();
    let gate = harness.double.as_ref().unwrap().gate();
    gate.hold_puts(true);
    let chunk = pattern(1024 * 1024);
    let key = key("stalled");
    let mut writer = harness.blobs.writer(&key).await.unwrap();

    // The server takes nothing, so whatever the writer takes it holds.
    let mut taken = 0;
    while tokio::time::timeout(Duration::from_secs(1), writer.write(chunk.clone()))
        .await
        .is_ok()
    {
        taken += chunk.len();
        assert!(taken <= HELD_AT_MOST, "the writer holds {taken} bytes");
    }

    assert!(
        taken > 2 * PART_BYTES,
        "parts go up side by side, but {taken} bytes were taken"
    );
    gate.hold_puts(false);
    writer.abort().await.unwrap();
}

#[tokio::test]
async fn a_stalled_write_goes_on_when_the_server_does() {
    let harness = s3();
    let gate = harness.double.as_ref().unwrap().gate().clone();
    gate.hold_puts(true);
    let bytes = pattern(6 * PART_BYTES + 1);
    let (blobs, expected) = (harness.blobs.clone(), bytes.clone());

    let writing = tokio::spawn(async move { put(&blobs, &key("late"), &bytes).await });
    gate.hold_puts(false);
    writing.await.unwrap();

    assert!(get(&harness.blobs, &key("late"), None).await == expected);
}

#[tokio::test]
async fn a_reader_takes_no_more_than_its_share_ahead_of_a_slow_consumer() {
    let harness = s3();
    let gate = harness.double.as_ref().unwrap().gate();
    let key = key("huge");
    let total = 2 * HELD_AT_MOST;
    put(&harness.blobs, &key, &pattern(total)).await;
    let before = gate.sent_bytes();

    let mut reader = harness.blobs.reader(&key, None).await.unwrap();
    let first = reader.bytes.next().await.unwrap().unwrap();

    // Until the server's side has stood still for a while.
    let mut sent = 0;
    let mut quiet = 0;
    wait_until("the server never stopped sending", || {
        let now = gate.sent_bytes() - before;
        quiet = if now == sent { quiet + 1 } else { 0 };
        sent = now;
        quiet == 50
    })
    .await;
    assert!(
        sent < HELD_AT_MOST as u64,
        "{sent} bytes were sent to a consumer that took {}",
        first.len()
    );

    let mut received = first.len();
    while let Some(chunk) = reader.bytes.next().await {
        received += chunk.unwrap().len();
    }
    assert_eq!(received, total);
}

#[tokio::test]
async fn the_store_outlives_the_runtime_that_used_it_first() {
    let harness = s3();
    let key = BlobKey::parse("x").unwrap();
    let (blobs, first) = (harness.blobs.clone(), key.clone());
    let used = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { put(&blobs, &first, &Bytes::from_static(b"1")).await });
    });
    tokio::task::spawn_blocking(move || used.join().unwrap())
        .await
        .unwrap();

    assert_eq!(get(&harness.blobs, &key, None).await, b"1");
}

fn bytes_below(folder: &std::path::Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => bytes_below(&entry.path()),
            Ok(metadata) => metadata.len(),
            Err(_) => 0,
        })
        .sum()
}

#[tokio::test]
async fn a_bucket_of_more_than_a_page_is_listed_whole() {
    let harness = s3();
    for number in 0..1_100 {
        let key = key(&format!("many/{number:04}"));
        put(&harness.blobs, &key, &Bytes::from_static(b"x")).await;
    }

    let listed = harness.blobs.list("many/", None, 2_000).await.unwrap();

    assert_eq!(listed.len(), 1_100);
    assert!(listed.is_sorted_by(|one, next| one.key < next.key));
    assert_eq!(listed[1_099].key, key("many/1099"));
}
