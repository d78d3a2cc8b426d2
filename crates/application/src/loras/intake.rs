use std::fmt;
use std::sync::Arc;

use atelier_domain::ports::{BlobError, BlobKey, BlobStore, BlobWriter};
use bytes::Bytes;

use super::UploadLoraError;
use super::receiving::{Received, Receiving};

/// A file on its way into the object store, checked and counted as it goes.
///
/// Dropped without `finish` or `abort`, it leaves nothing visible.
pub(crate) struct Intake {
    receiving: Receiving,
    writer: Box<dyn BlobWriter>,
}

impl fmt::Debug for Intake {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Intake")
            .field("received_bytes", &self.receiving.received_bytes())
            .finish_non_exhaustive()
    }
}

impl Intake {
    pub(crate) async fn open(
        blobs: &Arc<dyn BlobStore>,
        key: &BlobKey,
        max_bytes: u64,
    ) -> Result<Self, BlobError> {
        Ok(Self {
            receiving: Receiving::new(max_bytes),
            writer: blobs.writer(key).await?,
        })
    }

    pub(crate) fn received_bytes(&self) -> u64 {
        self.receiving.received_bytes()
    }

    /// Takes the next bytes; waits while the store is behind.
    ///
    /// # Errors
    /// A file that will be refused is refused as soon as that is certain.
    pub(crate) async fn write(&mut self, bytes: Bytes) -> Result<(), UploadLoraError> {
        self.receiving.take(bytes.clone()).await?;
        Ok(self.writer.write(bytes).await?)
    }

    /// Checks the whole, and what was told about it, and makes it visible.
    ///
    /// Nothing is visible after an error, or what is belongs to a row that is
    /// not ready, and goes with it.
    pub(crate) async fn finish(
        self,
        is_wanted: impl FnOnce(&Received) -> Result<(), UploadLoraError>,
    ) -> Result<Received, UploadLoraError> {
        let Self { receiving, writer } = self;
        let checked = receiving
            .finish()
            .await
            .and_then(|received| is_wanted(&received).map(|()| received));
        let received = match checked {
            Ok(received) => received,
            Err(error) => {
                abort(writer).await;
                return Err(error);
            }
        };
        let stored = writer.finish().await?;
        if stored.size_bytes == received.file_size {
            return Ok(received);
        }
        let (stored, sent) = (stored.size_bytes, received.file_size);
        Err(BlobError::Backend(format!("stored {stored} of {sent} bytes").into()).into())
    }

    /// Throws away what was written.
    pub(crate) async fn abort(self) {
        abort(self.writer).await;
    }
}

async fn abort(writer: Box<dyn BlobWriter>) {
    if let Err(error) = writer.abort().await {
        tracing::warn!(
            error = &error as &dyn std::error::Error,
            "a broken-off object was not thrown away; the store will expire it"
        );
    }
}
