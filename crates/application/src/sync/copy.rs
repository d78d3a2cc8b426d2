use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use atelier_domain::ports::{
    BlobError, BlobKey, BlobStore, ByteRange, ByteStream, InstallStart, LoraFile, LoraInstall,
    Measurement,
};
use bytes::{Bytes, BytesMut};
use futures_util::stream::StreamExt as _;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::error::CopyError;
use super::room::Room;

/// Small pieces are joined to blocks of this size: a store hands out 8 KiB at a
/// time, which costs a folder a call each.
const BLOCK_BYTES: usize = 256 * 1024;

/// Blocks between reading and writing. With one more in each hand a copy holds
/// a few blocks, or a few of the store's own pieces where those are larger.
const BLOCKS_BETWEEN: usize = 4;

/// How long a store or a folder may take for one piece.
const STALL: Duration = Duration::from_mins(1);

/// How long a folder may take to make a large file durable.
const FINISH: Duration = Duration::from_mins(10);

/// How often reading is taken up again at one place.
const RESUMPTIONS: u32 = 5;

/// A file that is to be copied, and where its bytes are.
#[derive(Clone, Debug)]
pub(super) struct Copying {
    pub(super) file: LoraFile,
    pub(super) blob_key: BlobKey,
}

#[tracing::instrument(skip_all, fields(lora.path = %copying.file.path, size_bytes = copying.file.size_bytes))]
pub(super) async fn copy(
    blobs: &dyn BlobStore,
    room: &Room,
    copying: Copying,
    done: &AtomicU64,
) -> Result<(), CopyError> {
    let expected_bytes = copying.file.size_bytes;
    let began = Instant::now();
    // Another process may be at the same file for as long as a copy takes.
    let install = match room.begin(copying.file).await? {
        InstallStart::Begun(install) => install,
        InstallStart::AlreadyThere => {
            done.store(expected_bytes, Ordering::Relaxed);
            return Ok(());
        }
    };
    let reader = unless_stalled(blobs.reader(&copying.blob_key, None)).await??;
    if reader.size_bytes != expected_bytes {
        return Err(CopyError::WrongSize {
            expected_bytes,
            stored_bytes: reader.size_bytes,
        });
    }
    let source = Source {
        blobs,
        key: &copying.blob_key,
        size_bytes: expected_bytes,
    };
    let (sender, receiver) = mpsc::channel(BLOCKS_BETWEEN);
    // Both ends go on at the same time: a block is written while the next is read.
    let (read, written) = tokio::join!(
        source.read(reader.bytes, sender),
        write(install, receiver, done)
    );
    let install = written?;
    read?;
    timeout(FINISH, install.finish()).await.map_err(stalled)??;
    room.telemetry.record(Measurement::LoraCopied {
        backend: room.backend.clone(),
        bytes: expected_bytes,
        took: began.elapsed(),
    });
    tracing::info!("installed a LoRA");
    Ok(())
}

struct Source<'a> {
    blobs: &'a dyn BlobStore,
    key: &'a BlobKey,
    size_bytes: u64,
}

impl Source<'_> {
    /// Reads the whole object, taken up again where its stream breaks off.
    async fn read(
        &self,
        mut bytes: ByteStream<BlobError>,
        sender: mpsc::Sender<Bytes>,
    ) -> Result<(), CopyError> {
        let mut blocks = Blocks {
            block: BytesMut::new(),
            sender,
        };
        let (mut position, mut broken_at, mut tries) = (0, 0, 0);
        loop {
            let trouble = match unless_stalled(bytes.next()).await? {
                Some(Ok(piece)) => {
                    position += u64::try_from(piece.len()).unwrap_or(u64::MAX);
                    if !blocks.push(piece).await {
                        // Writing failed and says why.
                        return Ok(());
                    }
                    continue;
                }
                Some(Err(error @ BlobError::Unavailable(_))) => error,
                Some(Err(error)) => return Err(error.into()),
                None if position >= self.size_bytes => break,
                None => BlobError::Unavailable("the object's bytes ended early".into()),
            };
            if position > broken_at {
                (broken_at, tries) = (position, 0);
            }
            tries += 1;
            if tries > RESUMPTIONS {
                return Err(trouble.into());
            }
            tracing::info!(
                position,
                error = &trouble as &dyn std::error::Error,
                "reading an object broke off; taking it up again"
            );
            bytes = self.resume(position, tries).await?;
        }
        blocks.flush().await;
        Ok(())
    }

    async fn resume(
        &self,
        position: u64,
        mut tries: u32,
    ) -> Result<ByteStream<BlobError>, CopyError> {
        let rest = ByteRange {
            start: position,
            end: self.size_bytes,
        };
        loop {
            sleep(Duration::from_millis(100) * 2_u32.saturating_pow(tries)).await;
            match unless_stalled(self.blobs.reader(self.key, Some(rest))).await? {
                Ok(reader) => return Ok(reader.bytes),
                Err(BlobError::Unavailable(_)) if tries < RESUMPTIONS => tries += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Joins small pieces.
struct Blocks {
    block: BytesMut,
    sender: mpsc::Sender<Bytes>,
}

impl Blocks {
    /// Says whether more is wanted.
    async fn push(&mut self, piece: Bytes) -> bool {
        let full = if self.block.is_empty() && piece.len() >= BLOCK_BYTES {
            piece
        } else {
            if self.block.is_empty() {
                // At once: growing by doubling leaves its steps behind, block after block.
                self.block.reserve(BLOCK_BYTES + piece.len());
            }
            self.block.extend_from_slice(&piece);
            if self.block.len() < BLOCK_BYTES {
                return true;
            }
            self.block.split().freeze()
        };
        self.sender.send(full).await.is_ok()
    }

    async fn flush(self) {
        if !self.block.is_empty() {
            // Writing failed, if this does, and says why.
            drop(self.sender.send(self.block.freeze()).await);
        }
    }
}

async fn write(
    mut install: Box<dyn LoraInstall>,
    mut receiver: mpsc::Receiver<Bytes>,
    done: &AtomicU64,
) -> Result<Box<dyn LoraInstall>, CopyError> {
    while let Some(block) = receiver.recv().await {
        let bytes = u64::try_from(block.len()).unwrap_or(u64::MAX);
        unless_stalled(install.write(block)).await??;
        done.fetch_add(bytes, Ordering::Relaxed);
    }
    Ok(install)
}

async fn unless_stalled<F: Future>(step: F) -> Result<F::Output, CopyError> {
    timeout(STALL, step).await.map_err(stalled)
}

fn stalled(_elapsed: tokio::time::error::Elapsed) -> CopyError {
    CopyError::Stalled
}
