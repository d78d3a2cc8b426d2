use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::ports::{
    BlobEntry, BlobError, BlobKey, BlobReader, BlobStat, BlobStore, BlobWriter, ByteRange, Clock,
};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use futures_util::{StreamExt as _, stream};

use crate::{Outage, WallClock};

/// How many bytes a chunk of a reader has.
const CHUNK_BYTES: usize = 64 * 1024;

type Objects = Arc<Mutex<BTreeMap<BlobKey, Object>>>;

#[derive(Clone, Debug)]
struct Object {
    bytes: Bytes,
    modified_at: DateTime<Utc>,
}

/// A store of objects in memory. Clones share it.
#[derive(Clone)]
pub struct InMemoryBlobs {
    objects: Objects,
    clock: Arc<dyn Clock>,
    outage: Outage,
}

impl fmt::Debug for InMemoryBlobs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("InMemoryBlobs")
            .field("objects", &self.objects)
            .finish_non_exhaustive()
    }
}

impl Default for InMemoryBlobs {
    fn default() -> Self {
        Self::new()
    }
}

impl InMemoryBlobs {
    /// An empty store.
    pub fn new() -> Self {
        Self {
            objects: Objects::default(),
            clock: Arc::new(WallClock),
            outage: Outage::default(),
        }
    }

    /// The same store, with times of writing from this clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Puts an object there.
    pub fn put(&self, key: &BlobKey, bytes: impl Into<Bytes>) {
        self.put_at(key, bytes, self.clock.now());
    }

    /// Puts an object there as if it had been written then.
    pub fn put_at(&self, key: &BlobKey, bytes: impl Into<Bytes>, modified_at: DateTime<Utc>) {
        let object = Object {
            bytes: bytes.into(),
            modified_at,
        };
        self.objects.lock().unwrap().insert(key.clone(), object);
    }

    /// The bytes of an object, if it is visible.
    pub fn bytes_of(&self, key: &BlobKey) -> Option<Bytes> {
        let objects = self.objects.lock().unwrap();
        objects.get(key).map(|object| object.bytes.clone())
    }

    /// The keys of all visible objects, in order.
    pub fn keys(&self) -> Vec<BlobKey> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    /// Makes the store unreachable, also for what is under way.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    fn reachable(&self) -> Result<(), BlobError> {
        match self.outage.source() {
            Some(source) => Err(BlobError::Unavailable(source)),
            None => Ok(()),
        }
    }
}

fn cut(bytes: &Bytes, range: Option<ByteRange>) -> Result<Bytes, BlobError> {
    let Some(range) = range else {
        return Ok(bytes.clone());
    };
    let place = |at: u64| usize::try_from(at).ok();
    match (place(range.start), place(range.end)) {
        (Some(start), Some(end)) if start < end && end <= bytes.len() => {
            Ok(bytes.slice(start..end))
        }
        _ => Err(BlobError::Backend(
            format!(
                "{range:?} is no range of an object of {} bytes",
                bytes.len()
            )
            .into(),
        )),
    }
}

#[async_trait]
impl BlobStore for InMemoryBlobs {
    async fn writer(&self, key: &BlobKey) -> Result<Box<dyn BlobWriter>, BlobError> {
        self.reachable()?;
        Ok(Box::new(InMemoryWriter {
            store: self.clone(),
            key: key.clone(),
            written: BytesMut::new(),
        }))
    }

    async fn reader(
        &self,
        key: &BlobKey,
        range: Option<ByteRange>,
    ) -> Result<BlobReader, BlobError> {
        self.reachable()?;
        let bytes = self
            .bytes_of(key)
            .ok_or_else(|| BlobError::NotFound(key.clone()))?;
        let wanted = cut(&bytes, range)?;
        let chunks: Vec<_> = (0..wanted.len())
            .step_by(CHUNK_BYTES)
            .map(|at| Ok(wanted.slice(at..wanted.len().min(at + CHUNK_BYTES))))
            .collect();
        Ok(BlobReader {
            size_bytes: bytes.len() as u64,
            bytes: stream::iter(chunks).boxed(),
        })
    }

    async fn stat(&self, key: &BlobKey) -> Result<Option<BlobStat>, BlobError> {
        self.reachable()?;
        Ok(self.bytes_of(key).map(|bytes| BlobStat {
            size_bytes: bytes.len() as u64,
        }))
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), BlobError> {
        self.reachable()?;
        self.objects.lock().unwrap().remove(key);
        Ok(())
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<BlobKey>,
        limit: u16,
    ) -> Result<Vec<BlobEntry>, BlobError> {
        self.reachable()?;
        let objects = self.objects.lock().unwrap();
        let beyond = after.map_or(Bound::Unbounded, Bound::Excluded);
        let listed = objects
            .range((beyond, Bound::Unbounded))
            .filter(|(key, _)| key.as_str().starts_with(prefix))
            .take(usize::from(limit));
        Ok(listed
            .map(|(key, object)| BlobEntry {
                key: key.clone(),
                size_bytes: object.bytes.len() as u64,
                modified_at: object.modified_at,
            })
            .collect())
    }

    async fn signed_url(
        &self,
        _key: &BlobKey,
        _valid_for: Duration,
    ) -> Result<Option<String>, BlobError> {
        self.reachable()?;
        Ok(None)
    }

    async fn check(&self) -> Result<(), BlobError> {
        self.reachable()
    }
}

struct InMemoryWriter {
    store: InMemoryBlobs,
    key: BlobKey,
    written: BytesMut,
}

#[async_trait]
impl BlobWriter for InMemoryWriter {
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError> {
        self.store.reachable()?;
        self.written.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<BlobStat, BlobError> {
        self.store.reachable()?;
        let size_bytes = self.written.len() as u64;
        self.store.put(&self.key, self.written.freeze());
        Ok(BlobStat { size_bytes })
    }

    async fn abort(self: Box<Self>) -> Result<(), BlobError> {
        self.store.reachable()
    }
}
