use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
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
    /// There is no room for the file.
    #[error("the LoRA folder has room for {available_bytes} bytes, not for {needed_bytes}")]
    Full {
        /// How many bytes are needed.
        needed_bytes: u64,
        /// How many there is room for, by the disk and by the quota.
        available_bytes: u64,
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
    /// How many bytes our files have, those being installed included.
    pub ours_bytes: u64,
    /// How many bytes its disk has left for our files.
    pub free_bytes: u64,
    /// How many bytes our files may have.
    pub quota_bytes: Option<u64>,
}

/// A file of ours in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledLora {
    /// What it is.
    pub file: LoraFile,
    /// When its presence was last asked for, or it was installed.
    pub last_used: DateTime<Utc>,
}

/// How an installation begins.
pub enum InstallStart {
    /// The bytes are wanted.
    Begun(Box<dyn LoraInstall>),
    /// Another process has installed the very file meanwhile.
    AlreadyThere,
}

impl std::fmt::Debug for InstallStart {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Begun(_) => "Begun",
            Self::AlreadyThere => "AlreadyThere",
        })
    }
}

/// One backend's LoRA folder.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait LoraFolder: Send + Sync {
    /// Says whether a file is there, and notes that somebody wants it.
    ///
    /// A file of that name is not enough: its size and digest MUST have been
    /// recorded when it was installed and be those asked for, and it MUST not
    /// have been touched since. Where the record is lost or fits no more, the
    /// file's bytes decide: they are read, and if they are those asked for, they
    /// are recorded anew.
    async fn presence(&self, file: &LoraFile) -> Result<LoraPresence, LoraFolderError>;

    /// Begins to install a file, in place of whatever is at its path: what is
    /// not ours is moved aside, never deleted. Waits while another process
    /// installs the same file.
    ///
    /// Room for all of its bytes MUST be kept from now on, on the disk and in
    /// the quota. The backend MUST never list it before it is whole and checked.
    ///
    /// # Errors
    /// [`LoraFolderError::Full`] before the first byte, if there is no room.
    async fn install(&self, file: LoraFile) -> Result<InstallStart, LoraFolderError>;

    /// Lists our files, as recorded.
    async fn installed(&self) -> Result<Vec<InstalledLora>, LoraFolderError>;

    /// Removes a file of ours, unless it was used after `seen` was listed, or is
    /// another one by now. Says whether it is gone.
    async fn evict(&self, seen: &InstalledLora) -> Result<bool, LoraFolderError>;

    /// Lists what stands at paths of ours without a record: perhaps our files,
    /// whose records were lost.
    async fn unrecorded(&self) -> Result<Vec<LoraPath>, LoraFolderError>;

    /// Records a file whose record was lost as ours again, if its bytes have this
    /// digest; says whether they have.
    async fn adopt(&self, path: &LoraPath, sha256: Sha256Digest) -> Result<bool, LoraFolderError>;

    /// Removes a file of ours and what was recorded of it. One that is not
    /// there is removed already; a file that we did not install stays.
    async fn remove(&self, path: &LoraPath) -> Result<(), LoraFolderError>;

    /// Says how full the folder is.
    async fn usage(&self) -> Result<FolderUsage, LoraFolderError>;

    /// Makes sure that the folder is there and can be written, and removes what
    /// installs that broke off left behind.
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
