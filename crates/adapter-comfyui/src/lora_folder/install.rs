use std::fs::File;
use std::io;
use std::sync::Arc;

use async_trait::async_trait;
use atelier_domain::digest::Sha256Digest;
use atelier_domain::ports::{LoraFile, LoraFolderError, LoraInstall};
use bytes::Bytes;

use super::directory::{Directory, FileMark};
use super::feed::Feed;
use super::folder::Root;
use super::record::{Record, Records};
use super::temporary::Temporary;

/// Names that a moved file may take before we give up.
const FOREIGN_NAMES: u32 = 10_000;

/// A file on its way into the folder.
#[derive(Debug)]
pub(super) struct FolderInstall {
    pub(super) root: Arc<Root>,
    pub(super) file: LoraFile,
    pub(super) temporary: Temporary,
    /// `None` once the disk refused.
    pub(super) feed: Option<Feed>,
    pub(super) received_bytes: u64,
}

#[async_trait]
impl LoraInstall for FolderInstall {
    async fn write(&mut self, bytes: Bytes) -> Result<(), LoraFolderError> {
        self.received_bytes += bytes.len() as u64;
        // What is too much need not fill the disk; it only counts.
        let keep = self.received_bytes <= self.file.size_bytes;
        if let Some(feed) = &self.feed
            && feed.push(bytes, keep).await
        {
            return Ok(());
        }
        self.ended().await.map(|_file_and_digest| ())
    }

    async fn finish(mut self: Box<Self>) -> Result<(), LoraFolderError> {
        let (written, received) = self.ended().await?;
        let Self {
            root,
            file,
            temporary,
            received_bytes,
            ..
        } = *self;
        if received_bytes != file.size_bytes || received != file.sha256 {
            return Err(LoraFolderError::WrongBytes {
                path: file.path,
                expected_bytes: file.size_bytes,
                expected: file.sha256,
                received_bytes,
                received,
            });
        }
        root.blocking(file.size_bytes, move |folder| {
            put_in_place(folder, &file, &written, temporary)
        })
        .await
    }
}

impl FolderInstall {
    async fn ended(&mut self) -> Result<(File, Sha256Digest), LoraFolderError> {
        let ended = match self.feed.take() {
            Some(feed) => feed.end().await,
            None => Err(io::Error::other("the disk took no more bytes")),
        };
        ended.map_err(|error| self.root.error(self.file.size_bytes, error))
    }
}

/// The record goes first: after a crash between the two there is a record
/// whose mark fits no file, which verifies nothing.
fn put_in_place(
    folder: &Directory,
    file: &LoraFile,
    written: &File,
    temporary: Temporary,
) -> io::Result<()> {
    written.sync_all()?;
    let records = Records::open_or_make(folder)?;
    let _lock = records.lock()?;
    let name = file.path.file();
    let known = records.read(&file.path)?;
    let there = temporary.directory();
    if let Some(stat) = there.stat(name)? {
        let is_ours = known.is_some_and(|known| FileMark::of(&stat) == Some(known.mark));
        if is_ours && known.is_some_and(|known| known.sha256 == file.sha256) {
            // Somebody else installed the same bytes meanwhile.
            return Ok(());
        }
        if !is_ours {
            move_aside(there, name)?;
        }
    }
    let record = Record {
        sha256: file.sha256,
        mark: FileMark::of_open(written)?,
    };
    records.write(&file.path, &record)?;
    temporary.keep_as(name)
}

/// What we did not put there is not ours to delete; under this name ComfyUI
/// does not list it.
fn move_aside(directory: &Directory, name: &str) -> io::Result<()> {
    for number in 1..=FOREIGN_NAMES {
        match directory.rename_to_new(name, &format!("{name}.foreign-{number}")) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            other => return other,
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}
