use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;

use atelier_domain::digest::Sha256Digest;
use bytes::Bytes;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// The largest piece that is handed over, and how many of them wait: a file
/// being installed holds at most 2 times 4 MiB.
const PIECE_BYTES: usize = 256 * 1024;
const PIECES: usize = 16;

/// Writes and hashes at once, each on a thread of its own: either takes about
/// as long as the other, and none may hold up an asynchronous runtime.
#[derive(Debug)]
pub(super) struct Feed {
    to_disk: mpsc::Sender<Bytes>,
    to_hash: mpsc::Sender<Bytes>,
    writing: JoinHandle<io::Result<()>>,
    hashing: JoinHandle<Sha256Digest>,
}

impl Feed {
    pub(super) fn into_file(file: Arc<File>) -> Self {
        let (to_disk, mut pieces) = mpsc::channel::<Bytes>(PIECES);
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(piece) = pieces.blocking_recv() {
                (&*file).write_all(&piece)?;
            }
            Ok(())
        });
        let (to_hash, mut pieces) = mpsc::channel::<Bytes>(PIECES);
        let hashing = tokio::task::spawn_blocking(move || {
            let mut hasher = Sha256::new();
            while let Some(piece) = pieces.blocking_recv() {
                hasher.update(&piece);
            }
            Sha256Digest::new(hasher.finalize().into())
        });
        Self {
            to_disk,
            to_hash,
            writing,
            hashing,
        }
    }

    /// Hands bytes over; `keep` says whether they go to the disk as well.
    ///
    /// Answers `false` once the disk takes no more: [`Feed::end`] tells why.
    pub(super) async fn push(&self, mut bytes: Bytes, keep: bool) -> bool {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(PIECE_BYTES));
            if keep && self.to_disk.send(piece.clone()).await.is_err() {
                return false;
            }
            if self.to_hash.send(piece).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Waits for both.
    pub(super) async fn end(self) -> io::Result<Sha256Digest> {
        drop((self.to_disk, self.to_hash));
        self.writing.await.map_err(io::Error::other)??;
        self.hashing.await.map_err(io::Error::other)
    }
}
