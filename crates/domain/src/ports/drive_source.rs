use std::fmt;

use async_trait::async_trait;
use thiserror::Error;

use crate::digest::Sha256Digest;
use crate::ports::{ByteStream, Source};

/// A file of Google Drive, as its metadata say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DriveFile {
    /// Drive's id of the file itself, shortcuts followed.
    pub file_id: String,
    /// What it is called there.
    pub name: String,
    /// How many bytes it has.
    pub size_bytes: u64,
    /// Changes whenever the bytes do.
    pub revision: Option<String>,
    /// The MD5 digest, 32 hexadecimal digits, where Drive has one.
    pub md5: Option<String>,
    /// The SHA-256 digest, where Drive has one.
    pub sha256: Option<Sha256Digest>,
}

/// Why Drive did not hand a file out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DriveError {
    /// The file is not there, or not shared with us: Drive does not tell
    /// which.
    #[error("Google Drive has no such file, or does not share it")]
    NotFound,
    /// The file can never be imported; the text says why, in words for the
    /// person who asked.
    #[error("{0}")]
    Refused(String),
    /// Our credentials are no longer good.
    #[error("Google Drive refused our credentials")]
    Unauthorized(#[source] Source),
    /// Not now; try again later.
    #[error("Google Drive cannot be reached")]
    Unavailable(#[source] Source),
    /// An answer that Drive does not give.
    #[error("Google Drive's answer makes no sense")]
    Backend(#[source] Source),
}

/// A file being downloaded.
pub struct DriveReader {
    /// The bytes, from the offset that was asked for to the end.
    pub bytes: ByteStream<DriveError>,
}

impl fmt::Debug for DriveReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("DriveReader")
            .finish_non_exhaustive()
    }
}

/// Google Drive, version 3 of its API (`reference/platform/PROTOCOLS.md`
/// section 4).
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait DriveSource: Send + Sync {
    /// Reads a file's metadata; follows one shortcut.
    async fn metadata(&self, file_id: &str) -> Result<DriveFile, DriveError>;

    /// Begins to download a file at a byte offset.
    async fn download(&self, file: &DriveFile, offset: u64) -> Result<DriveReader, DriveError>;
}
