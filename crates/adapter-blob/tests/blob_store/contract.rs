//! What the port promises, on every kind of store.

use atelier_domain::ports::{BlobError, BlobStat, BlobStore, ByteRange};
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
    what_was_written_is_read_back,
    an_object_larger_than_its_parts_is_whole,
    an_empty_object_is_an_object,
    an_object_is_visible_only_after_finish,
    an_aborted_object_never_appears,
    a_dropped_writer_leaves_nothing_visible,
    writing_again_replaces_the_object,
    a_range_is_cut_out,
    a_range_past_the_end_is_a_mistake,
    an_absent_object_is_not_found,
    deleting_twice_is_fine,
    every_key_is_an_object_of_its_own,
    the_store_answers_a_check,
);

async fn what_was_written_is_read_back(harness: &Harness) {
    let (key, bytes) = (key("user-1/loras/style.safetensors"), pattern(100_000));

    let mut writer = harness.blobs.writer(&key).await.unwrap();
    for piece in bytes.chunks(7_001) {
        writer.write(Bytes::copy_from_slice(piece)).await.unwrap();
    }
    let stat = writer.finish().await.unwrap();

    assert_eq!(
        stat,
        BlobStat {
            size_bytes: 100_000
        }
    );
    assert_eq!(harness.blobs.stat(&key).await.unwrap(), Some(stat));
    let reader = harness.blobs.reader(&key, None).await.unwrap();
    assert_eq!(reader.size_bytes, 100_000);
    assert!(support::read(reader).await == bytes);
}

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

async fn an_empty_object_is_an_object(harness: &Harness) {
    let key = key("empty");

    let stat = harness
        .blobs
        .writer(&key)
        .await
        .unwrap()
        .finish()
        .await
        .unwrap();

    assert_eq!(stat.size_bytes, 0);
    assert_eq!(harness.blobs.stat(&key).await.unwrap(), Some(stat));
    assert_eq!(get(&harness.blobs, &key, None).await, b"");
}

async fn an_object_is_visible_only_after_finish(harness: &Harness) {
    let (key, bytes) = (key("user-1/slow"), pattern(PART_BYTES + 5));
    let mut writer = harness.blobs.writer(&key).await.unwrap();

    writer.write(bytes.clone()).await.unwrap();

    assert_eq!(harness.blobs.stat(&key).await.unwrap(), None);
    writer.finish().await.unwrap();
    assert!(get(&harness.blobs, &key, None).await == bytes);
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

async fn writing_again_replaces_the_object(harness: &Harness) {
    let key = key("twice");
    put(&harness.blobs, &key, &pattern(2 * PART_BYTES)).await;

    put(&harness.blobs, &key, &Bytes::from_static(b"second")).await;

    assert_eq!(get(&harness.blobs, &key, None).await, b"second");
}

async fn a_range_is_cut_out(harness: &Harness) {
    let (key, bytes) = (key("ranged"), pattern(3_000_000));
    put(&harness.blobs, &key, &bytes).await;

    for (start, end) in [
        (0, 1),
        (10, 20),
        (2_999_999, 3_000_000),
        (1, 2_500_000),
        (0, 3_000_000),
    ] {
        let range = ByteRange { start, end };
        let reader = harness.blobs.reader(&key, Some(range)).await.unwrap();
        assert_eq!(
            reader.size_bytes, 3_000_000,
            "the size is the whole object's"
        );
        let expected = &bytes[usize::try_from(start).unwrap()..usize::try_from(end).unwrap()];
        assert!(support::read(reader).await == expected, "{range:?}");
    }
}

async fn a_range_past_the_end_is_a_mistake(harness: &Harness) {
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

async fn an_absent_object_is_not_found(harness: &Harness) {
    let absent = key("user-1/nothing");

    let read = harness.blobs.reader(&absent, None).await;
    let part = harness
        .blobs
        .reader(&absent, Some(ByteRange { start: 0, end: 1 }))
        .await;

    assert!(matches!(read, Err(BlobError::NotFound(found)) if found == absent));
    assert!(matches!(part, Err(BlobError::NotFound(_))));
    assert_eq!(harness.blobs.stat(&absent).await.unwrap(), None);
}

async fn deleting_twice_is_fine(harness: &Harness) {
    let key = key("user-1/runs/2/gone.png");
    put(&harness.blobs, &key, &Bytes::from_static(b"x")).await;

    harness.blobs.delete(&key).await.unwrap();
    assert_eq!(harness.blobs.stat(&key).await.unwrap(), None);
    harness.blobs.delete(&key).await.unwrap();
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

async fn the_store_answers_a_check(harness: &Harness) {
    harness.blobs.check().await.unwrap();
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
