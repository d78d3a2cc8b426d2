use async_trait::async_trait;
use bytes::Bytes;
use thiserror::Error;

use crate::digest::Sha256Digest;
use crate::lora::LoraPath;
use crate::ports::Source;

/// Why a LoRA folder could not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoraFolderError {
    /// The folder is not there, or not ours to write.
    #[error("the LoRA folder {folder} cannot be written")]
    Unwritable {
        /// The folder, as configured.
        folder: String,
        /// What the system said.
        #[source]
        source: Source,
    },
    /// The disk has no room for the file.
    #[error("the LoRA folder has no room for {needed_bytes} bytes")]
    Full {
        /// How many bytes are needed.
        needed_bytes: u64,
        /// What the system said.
        #[source]
        source: Source,
    },
    /// What came is not what was announced; nothing was installed.
    #[error(
        "the bytes for {path} are not those announced: \
         {expected_bytes} bytes of digest {expected}, got {received_bytes} of {received}"
    )]
    WrongBytes {
        /// Where they were to go.
        path: LoraPath,
        /// How many were announced.
        expected_bytes: u64,
        /// Their digest as announced.
        expected: Sha256Digest,
        /// How many came.
        received_bytes: u64,
        /// Their digest.
        received: Sha256Digest,
    },
    /// Anything else.
    #[error("the LoRA folder failed")]
    Backend(#[source] Source),
}

/// What is to be installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraFile {
    /// Where, below the folder.
    pub path: LoraPath,
    /// How many bytes.
    pub size_bytes: u64,
    /// Their digest.
    pub sha256: Sha256Digest,
}

/// Whether a file is where a backend needs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoraPresence {
    /// The very file: we installed it, and nobody changed it since.
    Verified,
    /// Nothing that can be trusted is there.
    Absent,
}

/// How full a folder is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FolderUsage {
    /// How many bytes our files have.
    pub ours_bytes: u64,
    /// How many bytes its disk has left.
    pub free_bytes: u64,
}

/// One backend's LoRA folder.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LoraFolder: Send + Sync {
    /// Says whether a file is there.
    ///
    /// A file of that name is not enough: its size and digest MUST have been
    /// recorded when it was installed and be those asked for, and it MUST not
    /// have been touched since.
    async fn presence(&self, file: &LoraFile) -> Result<LoraPresence, LoraFolderError>;

    /// Begins to install a file, in place of whatever is at its path.
    ///
    /// The backend MUST never list it before it is whole and checked.
    async fn install(&self, file: LoraFile) -> Result<Box<dyn LoraInstall>, LoraFolderError>;

    /// Removes a file of ours and what was recorded of it. One that is not
    /// there is removed already; a file that we did not install stays.
    async fn remove(&self, path: &LoraPath) -> Result<(), LoraFolderError>;

    /// Says how full the folder is.
    async fn usage(&self) -> Result<FolderUsage, LoraFolderError>;

    /// Makes sure that the folder is there and can be written.
    async fn check(&self) -> Result<(), LoraFolderError>;
}

/// A file being installed. Dropped without `finish`, it leaves nothing that a
/// backend lists.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LoraInstall: Send {
    /// Appends bytes.
    async fn write(&mut self, bytes: Bytes) -> Result<(), LoraFolderError>;

    /// Checks count and digest, makes the bytes durable, and puts the file in
    /// its place at one stroke.
    ///
    /// # Errors
    /// [`LoraFolderError::WrongBytes`] if they are not what was announced.
    async fn finish(self: Box<Self>) -> Result<(), LoraFolderError>;
}
