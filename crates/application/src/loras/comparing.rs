use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraContent};
use bytes::Bytes;

use super::UploadLoraError;
use super::receiving::Receiving;

/// A file that is sent under a filename which is taken: it is kept nowhere, and
/// is welcome only if it has the very bytes that are there.
pub(super) struct Comparing {
    existing: Box<Lora>,
    content: LoraContent,
    receiving: Receiving,
}

impl Comparing {
    pub(super) fn with(existing: Lora, max_bytes: u64) -> Result<Self, UploadLoraError> {
        let Some(content) = existing.content.clone() else {
            return Err(UploadLoraError::FilenameTaken { existing: None });
        };
        Ok(Self {
            existing: Box::new(existing),
            content,
            receiving: Receiving::new(max_bytes),
        })
    }

    pub(super) fn existing_id(&self) -> LoraId {
        self.existing.id
    }

    /// Takes the next bytes; refuses the file as soon as it is certain that it
    /// is another one.
    pub(super) async fn take(&mut self, bytes: Bytes) -> Result<(), UploadLoraError> {
        self.receiving.take(bytes).await?;
        match self.receiving.header() {
            Some(header) if header.expected_file_size() != self.content.file_size => {
                Err(self.taken())
            }
            _ => Ok(()),
        }
    }

    /// The LoRA that is there, if the whole file is the same.
    pub(super) async fn finish(self) -> Result<Box<Lora>, UploadLoraError> {
        let taken = self.taken();
        let received = self.receiving.finish().await?;
        if received.hashes.sha256 == self.content.hashes.sha256 {
            Ok(self.existing)
        } else {
            Err(taken)
        }
    }

    fn taken(&self) -> UploadLoraError {
        UploadLoraError::FilenameTaken {
            existing: Some(self.existing.id),
        }
    }
}
