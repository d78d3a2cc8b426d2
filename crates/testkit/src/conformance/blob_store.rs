//! What every [`BlobStore`] must do.

mod listing;

pub use listing::*;

use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ports::{
    BlobError, BlobKey, BlobReader, BlobStat, BlobStore, BlobWriter, ByteRange,
};
use bytes::Bytes;
use futures_util::StreamExt as _;

use super::KeepAlive;
use crate::random_id;

/// A store under test. It may be shared with other tests.
pub struct Harness {
    /// The store under test.
    pub blobs: Arc<dyn BlobStore>,
    /// Whether it has addresses for everybody to read.
    pub signs_urls: bool,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

fn key(text: &str) -> BlobKey {
    BlobKey::parse(text).expect("the case gives a good key")
}

fn a_key() -> BlobKey {
    key(&format!("user-{}/runs/{}/a.png", random_id(), random_id()))
}

/// Bytes that are everywhere different, so that a misplaced chunk shows.
fn pattern(length: usize) -> Bytes {
    let word = |at: usize| {
        (at as u64)
            .wrapping_mul(0x9E37_79B9_7F4A_7C15)
            .to_le_bytes()
    };
    let mut bytes: Vec<u8> = (0..length.div_ceil(8)).flat_map(word).collect();
    bytes.truncate(length);
    bytes.into()
}

async fn collected(mut reader: BlobReader) -> Result<Bytes, BlobError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = reader.bytes.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    Ok(bytes.into())
}

impl Harness {
    async fn begun(&self, key: &BlobKey, bytes: &Bytes) -> Box<dyn BlobWriter> {
        let mut writer = self.blobs.writer(key).await.unwrap();
        writer.write(bytes.clone()).await.unwrap();
        writer
    }

    async fn stored(&self, key: &BlobKey, bytes: &Bytes) {
        let stat = self.begun(key, bytes).await.finish().await.unwrap();
        assert_eq!(stat.size_bytes, bytes.len() as u64);
    }

    async fn read(&self, key: &BlobKey) -> Bytes {
        let reader = self.blobs.reader(key, None).await.unwrap();
        let size_bytes = reader.size_bytes;
        let bytes = collected(reader).await.unwrap();
        assert_eq!(size_bytes, bytes.len() as u64);
        bytes
    }

    async fn read_range(&self, key: &BlobKey, start: u64, end: u64) -> Result<Bytes, BlobError> {
        let range = ByteRange { start, end };
        let reader = self.blobs.reader(key, Some(range)).await?;
        collected(reader).await
    }

    async fn size(&self, key: &BlobKey) -> Option<u64> {
        let stat = self.blobs.stat(key).await.unwrap();
        stat.map(|stat: BlobStat| stat.size_bytes)
    }

    async fn assert_absent(&self, key: &BlobKey) {
        assert_eq!(self.size(key).await, None);
        let reader = self.blobs.reader(key, None).await;
        assert!(
            matches!(&reader, Err(BlobError::NotFound(missing)) if missing == key),
            "{reader:?}"
        );
    }
}

/// The store can be reached.
pub async fn the_store_is_there(h: &Harness) {
    h.blobs.check().await.unwrap();
}

/// What is written and finished is read, and its size is known.
pub async fn a_finished_object_is_read_back(h: &Harness) {
    let (key, bytes) = (a_key(), pattern(1_000));
    h.assert_absent(&key).await;

    h.stored(&key, &bytes).await;

    assert_eq!(h.size(&key).await, Some(1_000));
    assert_eq!(h.read(&key).await, bytes);
}

/// However much was written, nobody sees it before it is finished.
pub async fn an_unfinished_object_is_not_visible(h: &Harness) {
    let key = a_key();
    let chunk = pattern(1 << 20);
    let mut writer = h.begun(&key, &chunk).await;
    for _ in 1..20 {
        h.assert_absent(&key).await;
        writer.write(chunk.clone()).await.unwrap();
    }
    h.assert_absent(&key).await;

    let stat = writer.finish().await.unwrap();

    assert_eq!(stat.size_bytes, 20 << 20);
    assert_eq!(h.size(&key).await, Some(20 << 20));
}

/// What is aborted was never there; the key is free for another.
pub async fn an_aborted_object_was_never_there(h: &Harness) {
    for length in [0, 10, 18 << 20] {
        let key = a_key();
        let writer = h.begun(&key, &pattern(length)).await;

        writer.abort().await.unwrap();

        h.assert_absent(&key).await;
        h.stored(&key, &pattern(7)).await;
        assert_eq!(h.read(&key).await, pattern(7));
    }
}

/// So is what is dropped, as when a request ends half-way.
pub async fn a_dropped_object_was_never_there(h: &Harness) {
    for length in [10, 18 << 20] {
        let key = a_key();

        drop(h.begun(&key, &pattern(length)).await);

        h.assert_absent(&key).await;
        h.stored(&key, &pattern(7)).await;
        assert_eq!(h.read(&key).await, pattern(7));
    }
}

/// The old object is there, whole, until the new one is.
pub async fn a_new_object_takes_the_place_of_the_old_at_one_stroke(h: &Harness) {
    let key = a_key();
    let (old, new) = (pattern(5_000), pattern(300));
    h.stored(&key, &old).await;

    let writer = h.begun(&key, &new).await;
    assert_eq!(h.read(&key).await, old);
    writer.finish().await.unwrap();

    assert_eq!(h.read(&key).await, new);
    assert_eq!(h.size(&key).await, Some(300));
}

/// Giving up a replacement keeps what is there.
pub async fn an_aborted_replacement_keeps_the_old_object(h: &Harness) {
    let key = a_key();
    let old = pattern(5_000);
    h.stored(&key, &old).await;

    h.begun(&key, &pattern(9)).await.abort().await.unwrap();
    assert_eq!(h.read(&key).await, old);

    drop(h.begun(&key, &pattern(9)).await);
    assert_eq!(h.read(&key).await, old);
}

/// Two writers of one key do not mix: the last to finish wins, whole.
pub async fn writers_of_one_key_do_not_mix(h: &Harness) {
    let key = a_key();
    let mut first = h.begun(&key, &Bytes::from_static(b"first-")).await;
    let mut second = h.begun(&key, &Bytes::from_static(b"second-")).await;
    first.write(Bytes::from_static(b"one")).await.unwrap();
    second.write(Bytes::from_static(b"two")).await.unwrap();

    first.finish().await.unwrap();
    assert_eq!(h.read(&key).await, "first-one");
    second.finish().await.unwrap();

    assert_eq!(h.read(&key).await, "second-two");
}

/// An object of no bytes is an object, written or not.
pub async fn an_empty_object_is_an_object(h: &Harness) {
    let (untouched, touched) = (a_key(), a_key());

    let writer = h.blobs.writer(&untouched).await.unwrap();
    assert_eq!(writer.finish().await.unwrap().size_bytes, 0);
    h.stored(&touched, &Bytes::new()).await;

    for key in [untouched, touched] {
        assert_eq!(h.size(&key).await, Some(0));
        assert_eq!(h.read(&key).await, Bytes::new());
    }
}

/// 40 MiB and a bit, in chunks that fit nothing, come back byte by byte.
pub async fn a_big_object_in_odd_chunks_is_whole(h: &Harness) {
    let key = a_key();
    let bytes = pattern((40 << 20) + 12_345);
    let mut writer = h.blobs.writer(&key).await.unwrap();
    let mut rest = bytes.clone();
    for length in [1, 0, 65_537, 1_000_003, 7, 6_000_001].into_iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let chunk = rest.split_to(rest.len().min(length));
        writer.write(chunk).await.unwrap();
    }

    let stat = writer.finish().await.unwrap();

    assert_eq!(stat.size_bytes, bytes.len() as u64);
    let read = h.read(&key).await;
    assert!(read == bytes, "{} bytes came back wrong", read.len());
}

/// One chunk that is larger than any buffer is taken.
pub async fn one_big_chunk_is_whole(h: &Harness) {
    let key = a_key();
    let bytes = pattern((24 << 20) + 1);

    h.stored(&key, &bytes).await;

    assert!(h.read(&key).await == bytes, "the bytes came back wrong");
}

/// A range gives its bytes and the size of the whole.
pub async fn a_range_gives_its_bytes(h: &Harness) {
    let key = a_key();
    let bytes = pattern(100_000);
    h.stored(&key, &bytes).await;
    for (start, end) in [
        (0, 100_000),
        (0, 1),
        (99_999, 100_000),
        (50_000, 50_001),
        (1, 99_999),
        (65_535, 65_537),
    ] {
        let wanted = Some(ByteRange {
            start: start as u64,
            end: end as u64,
        });

        let reader = h.blobs.reader(&key, wanted).await.unwrap();

        assert_eq!(reader.size_bytes, 100_000, "the whole object's");
        let read = collected(reader).await.unwrap();
        assert_eq!(read, bytes.slice(start..end), "{start}..{end}");
    }
}

/// A range past the end is an error, not fewer bytes.
pub async fn a_range_past_the_end_is_an_error(h: &Harness) {
    let key = a_key();
    h.stored(&key, &pattern(100)).await;
    for (start, end) in [(0, 101), (99, 200), (100, 101), (1_000, 2_000)] {
        let read = h.read_range(&key, start, end).await;
        assert!(
            matches!(read, Err(BlobError::Backend(_))),
            "{start}..{end}: {read:?}"
        );
    }
}

/// A range of nothing that is there is not found.
pub async fn a_range_of_an_absent_object_is_not_found(h: &Harness) {
    let read = h.read_range(&a_key(), 0, 1).await;

    assert!(matches!(read, Err(BlobError::NotFound(_))), "{read:?}");
}

/// A deleted object is gone; one that is not there is deleted already.
pub async fn a_deleted_object_is_gone(h: &Harness) {
    let (key, neighbour) = (a_key(), a_key());
    h.stored(&key, &pattern(10)).await;
    h.stored(&neighbour, &pattern(11)).await;

    h.blobs.delete(&key).await.unwrap();

    h.assert_absent(&key).await;
    h.blobs.delete(&key).await.unwrap();
    h.blobs.delete(&a_key()).await.unwrap();
    assert_eq!(h.read(&neighbour).await, pattern(11));
    h.stored(&key, &pattern(12)).await;
    assert_eq!(h.read(&key).await, pattern(12));
}

/// Keys that look alike to a careless encoder are different objects.
pub async fn odd_keys_are_kept_apart(h: &Harness) {
    let folder = format!("user-{}", random_id());
    let longest = "x".repeat(200);
    let names = [
        "plain.png",
        "with blank.png",
        "with%20blank.png",
        "with+blank.png",
        "with%2520blank.png",
        "ünï.png",
        "u\u{308}n\u{131}.png",
        "日本語 🙂.png",
        "a?b=c&d#e.png",
        "a*b~c|d<e>f\"g'h`i.png",
        "a:b;c,d=e@f$g!h^i.png",
        "[a]{b}(c).png",
        ".hidden",
        "two..dots.png",
        "trailing.",
        "UPPER.png",
        "upper.png",
        longest.as_str(),
    ];
    let keys: Vec<_> = names
        .iter()
        .map(|name| key(&format!("{folder}/{name}")))
        .collect();
    for (number, key) in keys.iter().enumerate() {
        h.stored(key, &pattern(number + 1)).await;
    }

    for (number, key) in keys.iter().enumerate() {
        assert_eq!(h.read(key).await, pattern(number + 1), "{key}");
        assert_eq!(h.size(key).await, Some(number as u64 + 1), "{key}");
    }
    for key in &keys {
        h.blobs.delete(key).await.unwrap();
        h.assert_absent(key).await;
    }
}

/// Many writers of different keys do not disturb each other.
pub async fn many_objects_at_once_are_whole(h: &Harness) {
    let mut writers = tokio::task::JoinSet::new();
    for number in 0..16_usize {
        let blobs = Arc::clone(&h.blobs);
        writers.spawn(async move {
            let (key, bytes) = (a_key(), pattern(100_000 + number));
            let mut writer = blobs.writer(&key).await.unwrap();
            for chunk in bytes.chunks(9_999) {
                writer.write(Bytes::copy_from_slice(chunk)).await.unwrap();
            }
            writer.finish().await.unwrap();
            (key, bytes)
        });
    }
    for (key, bytes) in writers.join_all().await {
        assert_eq!(h.read(&key).await, bytes);
    }
}

/// A store either has addresses for everybody to read, or says so.
pub async fn a_signed_url_is_given_where_the_store_has_them(h: &Harness) {
    let key = a_key();
    h.stored(&key, &pattern(10)).await;

    let url = h.blobs.signed_url(&key, Duration::from_mins(1)).await;

    let url = url.unwrap();
    assert_eq!(url.is_some(), h.signs_urls);
    assert!(url.is_none_or(|url| url.starts_with("http")));
}

/// Tests a `BlobStore`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! blob_store_conformance {
    ($harness:expr) => {
        $crate::__cases! { blob_store in blob_store_conformance, $harness;
            the_store_is_there,
            a_finished_object_is_read_back,
            an_unfinished_object_is_not_visible,
            an_aborted_object_was_never_there,
            a_dropped_object_was_never_there,
            a_new_object_takes_the_place_of_the_old_at_one_stroke,
            an_aborted_replacement_keeps_the_old_object,
            writers_of_one_key_do_not_mix,
            an_empty_object_is_an_object,
            a_big_object_in_odd_chunks_is_whole,
            one_big_chunk_is_whole,
            a_range_gives_its_bytes,
            a_range_past_the_end_is_an_error,
            a_range_of_an_absent_object_is_not_found,
            a_deleted_object_is_gone,
            odd_keys_are_kept_apart,
            many_objects_at_once_are_whole,
            a_signed_url_is_given_where_the_store_has_them,
            objects_are_listed_by_prefix_in_order,
            a_list_goes_on_after_a_key,
            a_prefix_may_end_anywhere,
            only_finished_objects_are_listed,
            odd_keys_are_listed_as_they_are,
        }
    };
}
