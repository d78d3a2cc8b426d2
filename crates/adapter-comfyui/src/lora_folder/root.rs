use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use atelier_domain::ports::LoraFolderError;
use rustix::io::Errno;

use super::directory::Directory;
use super::record::Records;
use super::room::available_bytes;

/// Where a backend's LoRA folder is, and how much of it may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraFolderOptions {
    /// The folder, such as `/basedir/models/loras`.
    pub folder: PathBuf,
    /// How many bytes our files may have, those being installed included;
    /// `None` for as many as fit on the disk.
    pub quota_bytes: Option<u64>,
    /// How many bytes of the disk are left free, whoever else uses it.
    pub keep_free_bytes: u64,
}

/// The folder as configured.
#[derive(Debug)]
pub(super) struct Root(pub(super) LoraFolderOptions);

/// Why work in the folder was not done.
#[derive(Debug)]
pub(super) enum Fault {
    Io(io::Error),
    Full {
        needed_bytes: u64,
        available_bytes: u64,
    },
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl Root {
    /// Works in the folder on a thread where waiting is allowed.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Directory, &LoraFolderOptions) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let root = Arc::clone(self);
        let done =
            tokio::task::spawn_blocking(move || work(&Directory::open(&root.0.folder)?, &root.0));
        done.await.map_err(io::Error::other)?
    }

    /// The same, for work that takes no room.
    pub(super) async fn work<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Directory) -> io::Result<T> + Send + 'static,
    ) -> Result<T, LoraFolderError> {
        let done = self.blocking(move |folder, _options| Ok(work(folder)?));
        match done.await {
            Ok(value) => Ok(value),
            Err(fault) => Err(self.error(0, fault).await),
        }
    }

    /// What is to be said of a failure; `needed_bytes` were to be written.
    pub(super) async fn error(
        self: &Arc<Self>,
        needed_bytes: u64,
        fault: Fault,
    ) -> LoraFolderError {
        let error = match fault {
            Fault::Io(error) => error,
            Fault::Full {
                needed_bytes,
                available_bytes,
            } => {
                return LoraFolderError::Full {
                    needed_bytes,
                    available_bytes,
                };
            }
        };
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                let room = self.blocking(|folder, options| {
                    let records = Records::open_or_make(folder)?;
                    let lock = records.lock()?;
                    Ok(available_bytes(&lock, folder, &records, options)?)
                });
                LoraFolderError::Full {
                    needed_bytes,
                    available_bytes: room.await.unwrap_or(0),
                }
            }
            ErrorKind::NotFound
            | ErrorKind::PermissionDenied
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::NotADirectory => self.unwritable(error),
            // A link where a folder or a file of ours should be.
            _ if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => self.unwritable(error),
            _ => LoraFolderError::Backend(Box::new(error)),
        }
    }

    fn unwritable(&self, error: io::Error) -> LoraFolderError {
        LoraFolderError::Unwritable {
            folder: self.0.folder.display().to_string(),
            source: Box::new(error),
        }
    }
}
