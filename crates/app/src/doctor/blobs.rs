use atelier_domain::ports::{BlobError, BlobKey, BlobStore, ByteRange, IdGen as _, InvalidBlobKey};
use bytes::Bytes;
use futures_util::StreamExt as _;
use uuid::Uuid;

use super::report::Finding;
use crate::clock::RandomIds;
use crate::logging::Chain;

const CHECK: &str = "object store";

/// One byte more than goes up in one piece: so that a store that cannot take objects in parts shows it.
const PROBE_BYTES: usize = 16 * 1024 * 1024 + 1;

/// A piece in its middle.
const MIDDLE: ByteRange = ByteRange {
    start: 8 * 1024 * 1024,
    end: 8 * 1024 * 1024 + 1_024,
};

/// Writes an object, reads a part of it, and deletes it.
pub(super) async fn examine(blobs: &dyn BlobStore) -> Vec<Finding> {
    vec![match probe(blobs, RandomIds.new_id()).await {
        Ok(()) => Finding::fine(
            CHECK,
            "an object was written in parts, read in part, and deleted",
        ),
        Err((step, error)) => Finding::broken(
            CHECK,
            format!("{step}: {}", Chain(&error)),
            "check BLOB_URL, MINIO_ENDPOINT, MINIO_ACCESS_KEY and MINIO_SECRET_KEY, that the bucket or folder is \
             there, and that the key may read, write, list and delete in it",
        ),
    }]
}

type Fault = (&'static str, BlobError);

async fn probe(blobs: &dyn BlobStore, id: Uuid) -> Result<(), Fault> {
    let at = |step| move |error| (step, error);
    let impossible = |error: InvalidBlobKey| {
        (
            "an object could not be named",
            BlobError::Backend(error.into()),
        )
    };
    let key = BlobKey::parse(format!("doctor/{id}")).map_err(impossible)?;
    let written = write(blobs, &key)
        .await
        .map_err(at("an object could not be written"));
    let read = match written {
        Ok(()) => read(blobs, &key)
            .await
            .map_err(at("an object could not be read in part")),
        Err(fault) => Err(fault),
    };
    let deleted = blobs.delete(&key).await;
    read?;
    deleted.map_err(at("an object could not be deleted"))?;
    let left = blobs.stat(&key).await;
    match left.map_err(at("an object could not be looked for"))? {
        None => Ok(()),
        Some(_) => Err((
            "an object was deleted",
            BlobError::Backend("and is there all the same".into()),
        )),
    }
}

fn pattern() -> Bytes {
    let bytes = (0..PROBE_BYTES).map(|index| u8::try_from(index / 1_024 % 251).unwrap_or(0));
    bytes.collect()
}

async fn write(blobs: &dyn BlobStore, key: &BlobKey) -> Result<(), BlobError> {
    let mut writer = blobs.writer(key).await?;
    if let Err(error) = writer.write(pattern()).await {
        // What is wrong is known already.
        drop(writer.abort().await);
        return Err(error);
    }
    writer.finish().await.map(drop)
}

async fn read(blobs: &dyn BlobStore, key: &BlobKey) -> Result<(), BlobError> {
    let mut reader = blobs.reader(key, Some(MIDDLE)).await?;
    let mut read = Vec::new();
    while let Some(piece) = reader.bytes.next().await {
        read.extend_from_slice(&piece?);
    }
    let expected = u8::try_from(8 * 1_024 % 251).unwrap_or(0);
    if read.len() == 1_024 && read.iter().all(|byte| *byte == expected) {
        return Ok(());
    }
    Err(BlobError::Backend(
        "the bytes are not those that were written".into(),
    ))
}

#[cfg(test)]
mod tests {
    use atelier_testkit::InMemoryBlobs;

    use super::super::report::Verdict;
    use super::*;

    #[tokio::test]
    async fn a_store_that_works_is_fine_and_keeps_nothing() {
        let blobs = InMemoryBlobs::new();

        let found = examine(&blobs).await;

        assert_eq!(found[0].verdict, Verdict::Ok, "{found:?}");
        assert_eq!(blobs.keys(), []);
    }

    #[tokio::test]
    async fn a_store_that_is_away_is_broken() {
        let blobs = InMemoryBlobs::new();
        blobs.outage().begin();

        let found = examine(&blobs).await;

        assert_eq!(found[0].verdict, Verdict::Failed);
        assert!(
            found[0]
                .detail
                .starts_with("an object could not be written"),
            "{found:?}"
        );
    }
}
