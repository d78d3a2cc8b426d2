use std::sync::LazyLock;
use std::time::Duration;

use atelier_blob::{BlobOptions, ObjectStoreBlobs};
use atelier_domain::ports::{BlobKey, BlobReader, BlobStore, ByteRange};
use atelier_s3_double::S3Double;
use bytes::Bytes;
use futures_util::StreamExt;
use tempfile::TempDir;
use tokio::runtime::Handle;

/// One part of an upload; see `writer.rs`.
pub(crate) const PART_BYTES: usize = 8 * 1024 * 1024;

/// One store per case, and what has to outlive it.
pub(crate) struct Harness {
    pub(crate) blobs: ObjectStoreBlobs,
    pub(crate) folder: Option<TempDir>,
    pub(crate) double: Option<S3Double>,
}

pub(crate) fn memory() -> Harness {
    let options = BlobOptions {
        url: "memory:".to_owned(),
        ..BlobOptions::default()
    };
    Harness {
        blobs: open(options),
        folder: None,
        double: None,
    }
}

pub(crate) fn folder() -> Harness {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}/blobs", folder.path().display());
    Harness {
        blobs: open(BlobOptions {
            url,
            ..BlobOptions::default()
        }),
        folder: Some(folder),
        double: None,
    }
}

pub(crate) fn s3() -> Harness {
    let double = S3Double::start().unwrap();
    let blobs = open(s3_options(&double));
    Harness {
        blobs,
        folder: None,
        double: Some(double),
    }
}

/// The adapter's I/O runs here, and the test's runtime is another: as in the
/// server, where each worker has one of its own.
fn io() -> Handle {
    static IO: LazyLock<tokio::runtime::Runtime> = LazyLock::new(|| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap()
    });
    IO.handle().clone()
}

pub(crate) fn open(options: BlobOptions) -> ObjectStoreBlobs {
    atelier_blob::open(options, io()).unwrap()
}

pub(crate) fn s3_options(double: &S3Double) -> BlobOptions {
    BlobOptions {
        url: format!("s3://{}", double.bucket()),
        endpoint: Some(double.endpoint()),
        region: None,
        access_key: Some(double.access_key().to_owned()),
        secret_key: Some(double.secret_key().to_owned()),
    }
}

pub(crate) fn key(text: &str) -> BlobKey {
    BlobKey::parse(text).unwrap()
}

pub(crate) async fn put(blobs: &ObjectStoreBlobs, key: &BlobKey, bytes: &Bytes) {
    let mut writer = blobs.writer(key).await.unwrap();
    writer.write(bytes.clone()).await.unwrap();
    assert_eq!(
        writer.finish().await.unwrap().size_bytes,
        bytes.len() as u64
    );
}

pub(crate) async fn get(
    blobs: &ObjectStoreBlobs,
    key: &BlobKey,
    range: Option<ByteRange>,
) -> Vec<u8> {
    read(blobs.reader(key, range).await.unwrap()).await
}

pub(crate) async fn read(reader: BlobReader) -> Vec<u8> {
    let mut bytes = reader.bytes;
    let mut all = Vec::new();
    while let Some(chunk) = bytes.next().await {
        all.extend_from_slice(&chunk.unwrap());
    }
    all
}

/// Bytes that repeat, but not in step with the parts.
pub(crate) fn pattern(length: usize) -> Bytes {
    let block: Vec<u8> = (0..1_000_003_u32)
        .map(|index| index.wrapping_mul(0x9e37_79b9).to_be_bytes()[0])
        .collect();
    let mut bytes = Vec::with_capacity(length);
    while bytes.len() < length {
        bytes.extend_from_slice(&block[..block.len().min(length - bytes.len())]);
    }
    bytes.into()
}

/// Asks again and again until it is so.
pub(crate) async fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let waited = tokio::time::timeout(Duration::from_mins(1), async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    });
    waited.await.expect(what);
}
