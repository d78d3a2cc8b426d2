use atelier_domain::digest::Sha256Digest;
use atelier_domain::lora::LoraFacts;
use atelier_domain::safetensors::{HeaderReader, lora_facts};
use sha2::{Digest as _, Sha256};

use super::UploadLoraError;

/// Counts, checks and digests a file while its bytes pass.
pub(super) struct Receiving {
    header: HeaderReader,
    hasher: Sha256,
    received_bytes: u64,
    max_bytes: u64,
}

/// A file that passed whole.
pub(super) struct Received {
    pub(super) file_size: u64,
    pub(super) sha256: Sha256Digest,
    pub(super) facts: LoraFacts,
}

impl Receiving {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            header: HeaderReader::new(),
            hasher: Sha256::new(),
            received_bytes: 0,
            max_bytes,
        }
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// Takes the next bytes; refuses the file as soon as it is certain that it
    /// will be refused.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), UploadLoraError> {
        self.received_bytes = self
            .received_bytes
            .saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        if self.received_bytes > self.max_bytes {
            return Err(self.too_large());
        }
        self.header.feed(bytes)?;
        if let Some(header) = self.header.header() {
            let expected = header.expected_file_size();
            if expected > self.max_bytes {
                return Err(self.too_large());
            }
            if self.received_bytes > expected {
                return Err(atelier_domain::safetensors::SafetensorsError::Appended {
                    expected,
                    actual: self.received_bytes,
                }
                .into());
            }
        }
        self.hasher.update(bytes);
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Received, UploadLoraError> {
        let header = self.header.finish(self.received_bytes)?;
        Ok(Received {
            file_size: self.received_bytes,
            sha256: Sha256Digest::new(self.hasher.finalize().into()),
            facts: lora_facts(&header),
        })
    }

    fn too_large(&self) -> UploadLoraError {
        UploadLoraError::TooLarge {
            limit_bytes: self.max_bytes,
        }
    }
}
