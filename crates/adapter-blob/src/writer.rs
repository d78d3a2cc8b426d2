use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::ports::{BlobError, BlobStat, BlobWriter};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutPayload, PutPayloadMut};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::error::{ErrorMap, misuse};

/// How large a part is. S3 wants at least 5 MiB, R2 wants them all equal.
pub(crate) const PART_BYTES: usize = 8 * 1024 * 1024;

/// How many parts are on their way at most. With the one being filled, a
/// writer holds 24 MiB.
const PARTS_ON_THEIR_WAY: usize = 2;

/// S3's limit: an object has at most 78 GiB.
const MAX_PARTS: u32 = 10_000;

/// A part's memory comes in blocks of this size: the system takes small blocks
/// back, while allocators keep whole parts for each of their threads.
const BLOCK_BYTES: usize = 64 * 1024;

/// How long an aborted writer waits for the parts on their way.
const PATIENCE: Duration = Duration::from_secs(5);

/// Writes an object: in one request if it fits into a part, else part by part.
pub(crate) struct PartWriter {
    pub(crate) store: Arc<dyn ObjectStore>,
    pub(crate) path: Path,
    pub(crate) runtime: Handle,
    pub(crate) errors: Arc<ErrorMap>,
    part: PutPayloadMut,
    written_bytes: u64,
    upload: Option<Box<dyn MultipartUpload>>,
    parts: JoinSet<object_store::Result<()>>,
    parts_begun: u32,
}

impl PartWriter {
    pub(crate) fn new(
        store: Arc<dyn ObjectStore>,
        path: Path,
        runtime: Handle,
        errors: Arc<ErrorMap>,
    ) -> Self {
        Self {
            store,
            path,
            runtime,
            errors,
            part: new_part(),
            written_bytes: 0,
            upload: None,
            parts: JoinSet::new(),
            parts_begun: 0,
        }
    }

    /// Runs on the runtime for I/O, where connections and blocking threads are.
    async fn on_runtime<T, F>(&mut self, work: F) -> Result<T, BlobError>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        let result = self
            .runtime
            .spawn(work)
            .await
            .unwrap_or_else(|error| Err(error.into()));
        result.map_err(|error| self.errors.writing(&error))
    }

    /// Waits until no more than `most` parts are on their way.
    async fn wait_for_parts(&mut self, most: usize) -> Result<(), BlobError> {
        while self.parts.len() > most {
            match self.parts.join_next().await {
                Some(Ok(Ok(()))) => {}
                Some(Ok(Err(error))) => return Err(self.errors.writing(&error)),
                Some(Err(error)) => return Err(self.errors.writing(&error.into())),
                None => return Ok(()),
            }
        }
        Ok(())
    }

    async fn send_part(&mut self) -> Result<(), BlobError> {
        if self.parts_begun == MAX_PARTS {
            return Err(misuse("an object may have 10 000 parts of 8 MiB"));
        }
        if self.upload.is_none() {
            let (store, path) = (Arc::clone(&self.store), self.path.clone());
            self.upload = Some(
                self.on_runtime(async move { store.put_multipart(&path).await })
                    .await?,
            );
        }
        self.wait_for_parts(PARTS_ON_THEIR_WAY - 1).await?;
        let payload = self.take_part();
        if let Some(upload) = &mut self.upload {
            self.parts_begun += 1;
            self.parts.spawn_on(upload.put_part(payload), &self.runtime);
        }
        Ok(())
    }

    fn take_part(&mut self) -> PutPayload {
        std::mem::replace(&mut self.part, new_part()).freeze()
    }
}

fn new_part() -> PutPayloadMut {
    PutPayloadMut::new().with_block_size(BLOCK_BYTES)
}

/// Ends the parts on their way: one that arrives after the upload was aborted
/// stays in the bucket, unseen.
async fn settle(parts: &mut JoinSet<object_store::Result<()>>) {
    let all = async { while parts.join_next().await.is_some() {} };
    // Whether they arrived or not: they are thrown away.
    drop(tokio::time::timeout(PATIENCE, all).await);
    parts.shutdown().await;
}

#[async_trait]
impl BlobWriter for PartWriter {
    async fn write(&mut self, mut bytes: Bytes) -> Result<(), BlobError> {
        self.written_bytes += bytes.len() as u64;
        while !bytes.is_empty() {
            let room = PART_BYTES - self.part.content_length();
            let piece = bytes.split_to(bytes.len().min(room));
            // Copied: a small piece may keep a large buffer of its sender alive.
            piece
                .chunks(BLOCK_BYTES)
                .for_each(|block| self.part.extend_from_slice(block));
            if self.part.content_length() == PART_BYTES {
                self.send_part().await?;
            }
        }
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<BlobStat, BlobError> {
        let size_bytes = self.written_bytes;
        if self.upload.is_none() {
            let (store, path) = (Arc::clone(&self.store), self.path.clone());
            let payload = self.take_part();
            self.on_runtime(async move { store.put(&path, payload).await })
                .await?;
            return Ok(BlobStat { size_bytes });
        }
        if !self.part.is_empty() {
            self.send_part().await?;
        }
        self.wait_for_parts(0).await?;
        if let Some(mut upload) = self.upload.take() {
            self.on_runtime(async move {
                let completed = upload.complete().await;
                if completed.is_err() {
                    // What is wrong, the first error says.
                    drop(upload.abort().await);
                }
                completed
            })
            .await?;
        }
        Ok(BlobStat { size_bytes })
    }

    async fn abort(mut self: Box<Self>) -> Result<(), BlobError> {
        settle(&mut self.parts).await;
        let Some(mut upload) = self.upload.take() else {
            return Ok(());
        };
        match self
            .runtime
            .spawn(async move { upload.abort().await })
            .await
        {
            Ok(Err(object_store::Error::NotFound { .. }) | Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.errors.writing(&error)),
            Err(error) => Err(self.errors.writing(&error.into())),
        }
    }
}

impl Drop for PartWriter {
    /// Throws away what was written, as far as that is possible without
    /// waiting for it.
    fn drop(&mut self) {
        if let Some(mut upload) = self.upload.take() {
            let mut parts = std::mem::take(&mut self.parts);
            self.runtime.spawn(async move {
                settle(&mut parts).await;
                drop(upload.abort().await);
            });
        }
    }
}
