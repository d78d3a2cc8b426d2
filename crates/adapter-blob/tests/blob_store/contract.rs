//! What the suite of the port leaves open, on every kind of store.

use atelier_domain::ports::{BlobError, BlobStore, ByteRange};
use bytes::Bytes;

use crate::support::{self, Harness, PART_BYTES, get, key, pattern, put, wait_until};

macro_rules! on_every_store {
    ($($case:ident),+ $(,)?) => {
        mod memory { $(#[tokio::test] async fn $case() { super::$case(&super::support::memory()).await; })+ }
        mod folder { $(#[tokio::test] async fn $case() { super::$case(&super::support::folder()).await; })+ }
        mod s3 { $(#[tokio::test] async fn $case() { super::$case(&super::support::s3()).await; })+ }
    };
}

on_every_store!(
    an_object_larger_than_its_parts_is_whole,
    an_aborted_object_never_appears,
    a_dropped_writer_leaves_nothing_visible,
    a_range_that_is_none_is_a_mistake,
    every_key_is_an_object_of_its_own,
);

async fn an_object_larger_than_its_parts_is_whole(harness: &Harness) {
    for length in [
        PART_BYTES - 1,
        PART_BYTES,
        PART_BYTES + 1,
        3 * PART_BYTES + 12_345,
    ] {
        let (key, bytes) = (key(&format!("large-{length}")), pattern(length));

        put(&harness.blobs, &key, &bytes).await;

        assert!(get(&harness.blobs, &key, None).await == bytes, "{length}");
    }
}

async fn an_aborted_object_never_appears(harness: &Harness) {
    for length in [0, 5, 2 * PART_BYTES] {
        let key = key(&format!("aborted-{length}"));
        let mut writer = harness.blobs.writer(&key).await.unwrap();
        writer.write(pattern(length)).await.unwrap();

        writer.abort().await.unwrap();

        assert_eq!(harness.blobs.stat(&key).await.unwrap(), None);
        if let Some(folder) = &harness.folder {
            assert_eq!(files_below(folder.path()), 0, "the parts are still there");
        }
    }
}

async fn a_dropped_writer_leaves_nothing_visible(harness: &Harness) {
    let key = key("dropped");
    let mut writer = harness.blobs.writer(&key).await.unwrap();
    writer.write(pattern(2 * PART_BYTES)).await.unwrap();

    drop(writer);

    assert_eq!(harness.blobs.stat(&key).await.unwrap(), None);
    if let Some(folder) = &harness.folder {
        wait_until("the parts are still there", || {
            files_below(folder.path()) == 0
        })
        .await;
    }
}

async fn a_range_that_is_none_is_a_mistake(harness: &Harness) {
    let key = key("short");
    put(&harness.blobs, &key, &Bytes::from_static(b"0123456789")).await;

    for (start, end) in [(5, 11), (10, 11), (11, 12), (5, 5), (6, 5)] {
        let refused = harness
            .blobs
            .reader(&key, Some(ByteRange { start, end }))
            .await;
        assert!(
            matches!(refused, Err(BlobError::Backend(_))),
            "{start}..{end}: {refused:?}"
        );
    }
}

async fn every_key_is_an_object_of_its_own(harness: &Harness) {
    let names = [
        "a b.png",
        "a%20b.png",
        "a+b.png",
        "ä/é/日本.png",
        "a#1",
        "a%231",
        "a#",
        "~",
        "*",
        "?x=1",
        "&<>\"'{}[]|^`",
        "%",
        "%2e%2e",
        "...",
        "😀.png",
        "UPPER",
        "upper",
        "-rf",
    ];

    for name in names {
        put(
            &harness.blobs,
            &key(name),
            &Bytes::copy_from_slice(name.as_bytes()),
        )
        .await;
    }

    for name in names {
        assert_eq!(
            get(&harness.blobs, &key(name), None).await,
            name.as_bytes(),
            "{name}"
        );
        harness.blobs.delete(&key(name)).await.unwrap();
        assert_eq!(
            harness.blobs.stat(&key(name)).await.unwrap(),
            None,
            "{name}"
        );
    }
}

fn files_below(folder: &std::path::Path) -> usize {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| {
            if entry.file_type().unwrap().is_dir() {
                files_below(&entry.path())
            } else {
                1
            }
        })
        .sum()
}
