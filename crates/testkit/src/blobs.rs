use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::ports::{
    BlobError, BlobKey, BlobReader, BlobStat, BlobStore, BlobWriter, ByteRange,
};
use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};

use crate::Outage;

/// How many bytes a chunk of a reader has.
const CHUNK_BYTES: usize = 64 * 1024;

type Objects = Arc<Mutex<BTreeMap<BlobKey, Bytes>>>;

/// A store of objects in memory. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct InMemoryBlobs {
    objects: Objects,
    outage: Outage,
}

impl InMemoryBlobs {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an object there.
    pub fn put(&self, key: &BlobKey, bytes: impl Into<Bytes>) {
        self.objects
            .lock()
            .unwrap()
            .insert(key.clone(), bytes.into());
    }

    /// The bytes of an object, if it is visible.
    pub fn bytes_of(&self, key: &BlobKey) -> Option<Bytes> {
        self.objects.lock().unwrap().get(key).cloned()
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
