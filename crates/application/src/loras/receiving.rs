use std::fmt;
use std::sync::Arc;

use atelier_domain::digest::{Blake3Digest, Sha256Digest};
use atelier_domain::lora::{LoraFacts, LoraHashes};
use atelier_domain::ports::BlobError;
use atelier_domain::safetensors::{HeaderReader, SafetensorsError, SafetensorsHeader, lora_facts};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};
use tokio::task::JoinHandle;

use super::UploadLoraError;

/// Hashed in one go, away from the threads of the runtime; up to two such
/// batches are held at once. Hashers hold no thread in between, so that slow
/// senders cost none.
const BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Each piece may keep a larger buffer alive.
const BATCH_PIECES: usize = 256;

/// Counts, checks and digests a file while its bytes pass.
///
/// Dropped, it leaves nothing behind but the batch that is being hashed.
pub(super) struct Receiving {
    header: HeaderReader,
    pending: Batch,
    sha256: Lane<Sha256>,
    tensors_sha256: Lane<Sha256>,
    blake3: Lane<blake3::Hasher>,
    received_bytes: u64,
    max_bytes: u64,
}

/// A file that passed whole.
#[derive(Debug)]
pub(crate) struct Received {
    pub(crate) file_size: u64,
    pub(crate) hashes: LoraHashes,
    pub(crate) facts: LoraFacts,
}

impl fmt::Debug for Receiving {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Receiving")
            .field("received_bytes", &self.received_bytes)
            .field("max_bytes", &self.max_bytes)
            .finish_non_exhaustive()
    }
}

impl Receiving {
    pub(super) fn new(max_bytes: u64) -> Self {
        Self {
            header: HeaderReader::new(),
            pending: Batch::default(),
            sha256: Lane::new(Sha256::new()),
            tensors_sha256: Lane::new(Sha256::new()),
            blake3: Lane::new(blake3::Hasher::new()),
            received_bytes: 0,
            max_bytes,
        }
    }

    pub(super) fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    /// The file's header, once it is complete and valid: it says how large the
    /// file has to be.
    pub(super) fn header(&self) -> Option<&SafetensorsHeader> {
        self.header.header()
    }

    /// Takes the next bytes; refuses the file as soon as it is certain that it
    /// will be refused. Waits while hashing is more than a batch behind.
    ///
    /// Dropped while it waits, it has taken the bytes all the same.
    pub(super) async fn take(&mut self, bytes: Bytes) -> Result<(), UploadLoraError> {
        self.check(&bytes)?;
        self.pending.push(bytes);
        if self.pending.is_full() {
            self.hash_pending().await?;
        }
        Ok(())
    }

    /// Ends the file.
    pub(super) async fn finish(mut self) -> Result<Received, UploadLoraError> {
        self.hash_pending().await?;
        let hashes = LoraHashes {
            sha256: Sha256Digest::new(self.sha256.end().await?.finalize().into()),
            blake3: Some(Blake3Digest::new(
                self.blake3.end().await?.finalize().into(),
            )),
            tensors_sha256: Some(Sha256Digest::new(
                self.tensors_sha256.end().await?.finalize().into(),
            )),
        };
        let header = self.header.finish(self.received_bytes)?;
        Ok(Received {
            file_size: self.received_bytes,
            hashes,
            facts: lora_facts(&header),
        })
    }

    fn check(&mut self, bytes: &[u8]) -> Result<(), UploadLoraError> {
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
                return Err(SafetensorsError::Appended {
                    expected,
                    actual: self.received_bytes,
                }
                .into());
            }
        }
        Ok(())
    }

    async fn hash_pending(&mut self) -> Result<(), UploadLoraError> {
        self.sha256.wait().await?;
        self.tensors_sha256.wait().await?;
        self.blake3.wait().await?;
        // From here on nothing waits, so that a caller who stops waiting
        // cannot part the three.
        let start = self
            .received_bytes
            .saturating_sub(u64::try_from(self.pending.bytes).unwrap_or(u64::MAX));
        // Without a header yet, all of it belongs to the header.
        let before_tensors = self.header.header().map_or(usize::MAX, |header| {
            usize::try_from(header.data_start().saturating_sub(start)).unwrap_or(usize::MAX)
        });
        let batch = Arc::new(std::mem::take(&mut self.pending));
        self.sha256.start(Arc::clone(&batch), 0);
        self.blake3.start(Arc::clone(&batch), 0);
        if before_tensors < batch.bytes {
            self.tensors_sha256.start(batch, before_tensors);
        }
        Ok(())
    }

    fn too_large(&self) -> UploadLoraError {
        UploadLoraError::TooLarge {
            limit_bytes: self.max_bytes,
        }
    }
}

/// Bytes that wait to be hashed, or are.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, piece: Bytes) {
        if !piece.is_empty() {
            self.bytes = self.bytes.saturating_add(piece.len());
            self.pieces.push(piece);
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.pieces.len() >= BATCH_PIECES
    }

    /// Calls `take` with all bytes but the first `skipped`.
    fn each(&self, mut skipped: usize, mut take: impl FnMut(&[u8])) {
        for piece in &self.pieces {
            match piece.get(skipped..) {
                Some(rest) => {
                    skipped = 0;
                    take(rest);
                }
                None => skipped -= piece.len(),
            }
        }
    }
}

/// What takes bytes in, in order.
trait Hasher: Send + 'static {
    fn add(&mut self, bytes: &[u8]);
}

impl Hasher for Sha256 {
    fn add(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

impl Hasher for blake3::Hasher {
    fn add(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }
}

/// One hasher, which is either here or away with a batch.
struct Lane<H> {
    here: Option<H>,
    away: Option<JoinHandle<H>>,
}

impl<H: Hasher> Lane<H> {
    fn new(hasher: H) -> Self {
        Self {
            here: Some(hasher),
            away: None,
        }
    }

    /// Waits until the hasher is here.
    async fn wait(&mut self) -> Result<(), UploadLoraError> {
        let Some(away) = &mut self.away else {
            return Ok(());
        };
        let ended = away.await;
        self.away = None;
        match ended {
            Ok(hasher) => {
                self.here = Some(hasher);
                Ok(())
            }
            Err(error) => Err(lost(error)),
        }
    }

    fn start(&mut self, batch: Arc<Batch>, skipped: usize) {
        if let Some(mut hasher) = self.here.take() {
            self.away = Some(tokio::task::spawn_blocking(move || {
                batch.each(skipped, |bytes| hasher.add(bytes));
                hasher
            }));
        }
    }

    async fn end(mut self) -> Result<H, UploadLoraError> {
        self.wait().await?;
        self.here
            .ok_or_else(|| lost("the file was hashed in part only"))
    }
}

/// A runtime that is shut down hashes no more; the same bytes may be taken
/// later.
fn lost(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> UploadLoraError {
    UploadLoraError::Blob(BlobError::Unavailable(source.into()))
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::task::{Context, Poll, Waker};

    use super::*;

    const LIMIT: u64 = 64 * 1024 * 1024;

    /// A file of one tensor of so many bytes, and where that begins.
    fn file(data: usize) -> (Vec<u8>, usize) {
        let header = format!(
            r#"{{"lora_unet_x.lora_down.weight":{{"dtype":"U8","shape":[8,{}],"data_offsets":[0,{data}]}}}}"#,
            data / 8
        );
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        let start = file.len();
        file.extend((0..data).map(|at| u8::try_from(at % 251).unwrap()));
        (file, start)
    }

    async fn receive(file: &[u8], chunk: usize) -> Result<Received, UploadLoraError> {
        let mut receiving = Receiving::new(LIMIT);
        for piece in file.chunks(chunk) {
            receiving.take(Bytes::copy_from_slice(piece)).await?;
        }
        receiving.finish().await
    }

    fn expected(file: &[u8], start: usize) -> LoraHashes {
        LoraHashes {
            sha256: Sha256Digest::new(Sha256::digest(file).into()),
            blake3: Some(Blake3Digest::new(blake3::hash(file).into())),
            tensors_sha256: Some(Sha256Digest::new(Sha256::digest(&file[start..]).into())),
        }
    }

    #[tokio::test]
    async fn hashes_do_not_depend_on_how_the_bytes_come() {
        for (data, chunks) in [
            (0, &[1, 7, 1000][..]),
            (800, &[1, 7, 1000]),
            (3 * 1024 * 1024, &[1021, 65_536, 1_048_576, 8_000_000]),
        ] {
            let (file, start) = file(data);
            for chunk in chunks {
                let received = receive(&file, *chunk).await.unwrap();

                assert_eq!(received.hashes, expected(&file, start), "{data} {chunk}");
                assert_eq!(received.file_size, file.len() as u64);
                assert_eq!(received.facts.rank, Some(8));
            }
        }
    }

    #[tokio::test]
    async fn a_header_of_several_batches_is_no_part_of_the_tensors() {
        let mut header = r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}}"#.to_owned();
        header.push_str(&" ".repeat(2 * BATCH_BYTES + 5));
        let mut file = (header.len() as u64).to_le_bytes().to_vec();
        file.extend(header.as_bytes());
        let start = file.len();
        file.extend([1, 2, 3, 4]);

        for chunk in [4096, 50_000, file.len()] {
            let received = receive(&file, chunk).await.unwrap();
            assert_eq!(received.hashes, expected(&file, start), "{chunk}");
        }
    }

    #[tokio::test]
    async fn a_wait_that_is_given_up_loses_no_bytes() {
        let (file, start) = file(6 * 1024 * 1024);
        let mut receiving = Receiving::new(LIMIT);
        for piece in file.chunks(300_000) {
            let taking = receiving.take(Bytes::copy_from_slice(piece));
            // Polled once and dropped, whether it had to wait or not.
            let mut taking = Box::pin(taking);
            let polled = taking
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            assert!(!matches!(polled, Poll::Ready(Err(_))));
        }

        let received = receiving.finish().await.unwrap();

        assert_eq!(received.hashes, expected(&file, start));
    }

    #[tokio::test]
    async fn the_header_is_told_as_soon_as_it_is_there() {
        let (file, start) = file(800);
        let mut receiving = Receiving::new(LIMIT);

        receiving
            .take(Bytes::copy_from_slice(&file[..start - 1]))
            .await
            .unwrap();
        assert!(receiving.header().is_none());
        receiving
            .take(Bytes::copy_from_slice(&file[start - 1..start]))
            .await
            .unwrap();

        let header = receiving.header().unwrap();
        assert_eq!(header.expected_file_size(), file.len() as u64);
        assert_eq!(receiving.received_bytes(), start as u64);
    }

    #[tokio::test]
    async fn files_are_refused_as_soon_as_that_is_certain() {
        let (file, start) = file(800);
        let head = Bytes::copy_from_slice(&file[..start]);

        let mut small = Receiving::new(file.len() as u64 - 1);
        let refused = small.take(head.clone()).await;
        assert!(
            matches!(refused, Err(UploadLoraError::TooLarge { .. })),
            "{refused:?}"
        );

        let mut appended = Receiving::new(LIMIT);
        appended.take(head.clone()).await.unwrap();
        let refused = appended.take(Bytes::from(vec![0; 801])).await;
        assert!(
            matches!(refused, Err(UploadLoraError::NotSafetensors(_))),
            "{refused:?}"
        );

        let mut cut = Receiving::new(LIMIT);
        cut.take(head).await.unwrap();
        let refused = cut.finish().await;
        assert!(
            matches!(refused, Err(UploadLoraError::NotSafetensors(_))),
            "{refused:?}"
        );

        let refused = receive(b"PK\x03\x04\x14\0\0\0\x08\0", 10).await;
        assert!(
            matches!(refused, Err(UploadLoraError::NotSafetensors(_))),
            "{refused:?}"
        );
    }
}
