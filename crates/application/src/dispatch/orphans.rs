use std::collections::BTreeSet;
use std::sync::Arc;

use atelier_domain::ports::{BlobEntry, BlobError, BlobKey, BlobOwner, RepoError};
use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use thiserror::Error;
use tokio::time::sleep;

use super::backoff::spread;
use super::station::Shared;

/// Objects that are looked at in one go.
const BATCH: u16 = 500;

/// What all our objects' keys begin with.
const PREFIX: &str = "user-";

/// The object that says whose store it is.
const MARKER: &str = "atelier/installation";

/// More than this is no marker of ours.
const MAX_MARKER_BYTES: u64 = 100;

/// Why orphans were not looked for.
#[derive(Debug, Error)]
enum SweepingError {
    #[error("the object store could not be used")]
    Blob(#[from] BlobError),
    #[error("what the objects belong to could not be looked up")]
    Repo(#[from] RepoError),
}

/// Deletes objects that no row knows: of accounts that are gone, of uploads and
/// outputs that a crash cut off.
///
/// Only in a store that is marked as this database's, only under keys of our own
/// making, and only what has been there for long.
pub(super) struct Orphans {
    pub(super) shared: Arc<Shared>,
}

impl Orphans {
    /// For ever.
    pub(super) async fn sweep(&self) {
        loop {
            let pause = self.shared.settings.orphans;
            sleep(spread(self.shared.ids.as_ref(), pause)).await;
            match self.sweep_once().await {
                Ok(0) => {}
                Ok(deleted) => tracing::info!(deleted, "deleted objects that belonged to nothing"),
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "objects that belong to nothing were not looked for"
                ),
            }
        }
    }

    async fn sweep_once(&self) -> Result<u64, SweepingError> {
        if !self.is_ours().await? {
            return Ok(0);
        }
        let (mut deleted, mut after) = (0, None);
        loop {
            let entries = self.shared.blobs.list(PREFIX, after, BATCH).await?;
            let Some(last) = entries.last() else {
                return Ok(deleted);
            };
            after = Some(last.key.clone());
            for orphan in self.orphans(&entries).await? {
                self.shared.blobs.delete(orphan).await?;
                deleted += 1;
            }
        }
    }

    async fn orphans<'a>(&self, entries: &'a [BlobEntry]) -> Result<Vec<&'a BlobKey>, RepoError> {
        let now = self.shared.clock.now();
        let age = self.shared.settings.orphan_age;
        let old: Vec<(BlobOwner, &BlobKey)> = entries
            .iter()
            .filter(|entry| entry.modified_at + age < now)
            .filter_map(|entry| Some((BlobOwner::of(&entry.key)?, &entry.key)))
            .collect();
        if old.is_empty() {
            return Ok(Vec::new());
        }
        let known = self.known(&old).await?;
        let orphans = old.into_iter().filter(|(owner, _)| !known.contains(owner));
        Ok(orphans.map(|(_, key)| key).collect())
    }

    async fn known(&self, old: &[(BlobOwner, &BlobKey)]) -> Result<BTreeSet<BlobOwner>, RepoError> {
        let owners: BTreeSet<BlobOwner> = old.iter().map(|(owner, _)| owner.clone()).collect();
        self.shared
            .loras
            .known_owners(owners.into_iter().collect())
            .await
    }

    /// Whether the store is marked as this database's. One that has no mark gets
    /// it if it is empty, or if the database knows something in it: an old store
    /// behind a new database is somebody's only copy.
    async fn is_ours(&self) -> Result<bool, SweepingError> {
        let mine = self.shared.loras.installation().await?.to_string();
        let Ok(marker) = BlobKey::parse(MARKER) else {
            return Ok(false);
        };
        match self.read(&marker).await? {
            Some(marked) if marked == mine.as_bytes() => return Ok(true),
            Some(_) => {
                tracing::warn!(
                    "the object store is another database's; nothing in it is deleted but what \
                     this one knows"
                );
                return Ok(false);
            }
            None => {}
        }
        let entries = self.shared.blobs.list(PREFIX, None, BATCH).await?;
        let owners: Vec<_> = entries
            .iter()
            .filter_map(|entry| Some((BlobOwner::of(&entry.key)?, &entry.key)))
            .collect();
        if !owners.is_empty() && self.known(&owners).await?.is_empty() {
            tracing::warn!(
                "the object store holds objects that this database does not know; nothing is \
                 deleted but what it knows"
            );
            return Ok(false);
        }
        let mut writer = self.shared.blobs.writer(&marker).await?;
        writer.write(Bytes::from(mine)).await?;
        writer.finish().await?;
        Ok(true)
    }

    async fn read(&self, key: &BlobKey) -> Result<Option<Bytes>, BlobError> {
        let mut reader = match self.shared.blobs.reader(key, None).await {
            Ok(reader) if reader.size_bytes <= MAX_MARKER_BYTES => reader,
            Ok(_) => return Ok(Some(Bytes::new())),
            Err(BlobError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut content = BytesMut::new();
        while let Some(bytes) = reader.bytes.next().await {
            content.extend_from_slice(&bytes?);
        }
        Ok(Some(content.freeze()))
    }
}
