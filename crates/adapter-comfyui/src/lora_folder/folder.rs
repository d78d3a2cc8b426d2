use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use async_trait::async_trait;
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{
    FolderUsage, LoraFile, LoraFolder, LoraFolderError, LoraInstall, LoraPresence,
};
use rustix::fs::{Access, FallocateFlags, access, fallocate};
use rustix::io::Errno;

use super::directory::Directory;
use super::feed::Feed;
use super::install::FolderInstall;
use super::record::{Records, found};
use super::sweep::sweep;
use super::temporary::Temporary;

/// A backend's `models/loras`, mounted on this machine.
///
/// A file stands at `{folder}/user-{uuid}/{file}`, and what we know of it at
/// `{folder}/.atelier/user-{uuid}/{file}.json`: its size, digest, inode and
/// time of change. It is trusted while these fit. What stands in its place and
/// is not ours is moved to `{file}.foreign-{n}`, which ComfyUI does not list.
///
/// Several processes may use the same folder. Directory times are left alone,
/// since ComfyUI goes by them (`reference/comfyui/PROTOCOL.md` section 9).
#[derive(Clone, Debug)]
pub struct MountedLoraFolder {
    root: Arc<Root>,
}

/// The folder as configured.
#[derive(Debug)]
pub(super) struct Root(PathBuf);

/// The file system has fewer bytes than are announced.
#[derive(Debug, thiserror::Error)]
#[error("{free_bytes} bytes are free")]
struct TooFull {
    free_bytes: u64,
}

impl MountedLoraFolder {
    /// Names a folder; nothing is touched yet.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            root: Arc::new(Root(folder)),
        }
    }
}

impl Root {
    /// Works in the folder on a thread where waiting is allowed.
    pub(super) async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        needed_bytes: u64,
        work: impl FnOnce(&Directory) -> io::Result<T> + Send + 'static,
    ) -> Result<T, LoraFolderError> {
        let path = self.0.clone();
        let done = tokio::task::spawn_blocking(move || work(&Directory::open(&path)?)).await;
        done.map_err(io::Error::other)
            .flatten()
            .map_err(|error| self.error(needed_bytes, error))
    }

    pub(super) fn error(&self, needed_bytes: u64, error: io::Error) -> LoraFolderError {
        match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
                LoraFolderError::Full {
                    needed_bytes,
                    source: Box::new(error),
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
            folder: self.0.display().to_string(),
            source: Box::new(error),
        }
    }
}

#[async_trait]
impl LoraFolder for MountedLoraFolder {
    async fn presence(&self, file: &LoraFile) -> Result<LoraPresence, LoraFolderError> {
        let file = file.clone();
        let verified = self
            .root
            .blocking(0, move |folder| is_verified(folder, &file))
            .await?;
        Ok(if verified {
            LoraPresence::Verified
        } else {
            LoraPresence::Absent
        })
    }

    async fn install(&self, file: LoraFile) -> Result<Box<dyn LoraInstall>, LoraFolderError> {
        let (path, size_bytes) = (file.path.clone(), file.size_bytes);
        let (open, temporary) = self
            .root
            .blocking(size_bytes, move |folder| begin(folder, &path, size_bytes))
            .await?;
        Ok(Box::new(FolderInstall {
            root: Arc::clone(&self.root),
            file,
            temporary,
            feed: Some(Feed::into_file(open)),
            received_bytes: 0,
        }))
    }

    async fn remove(&self, path: &LoraPath) -> Result<(), LoraFolderError> {
        let path = path.clone();
        self.root
            .blocking(0, move |folder| remove(folder, &path))
            .await
    }

    async fn usage(&self) -> Result<FolderUsage, LoraFolderError> {
        self.root.blocking(0, usage).await
    }

    async fn check(&self) -> Result<(), LoraFolderError> {
        let path = self.root.0.clone();
        self.root
            .blocking(0, move |folder| {
                access(&path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?;
                drop(Records::open_or_make(folder)?.lock()?);
                sweep(folder)
            })
            .await
    }
}

fn is_verified(folder: &Directory, file: &LoraFile) -> io::Result<bool> {
    let Some(record) = recorded(folder, &file.path)? else {
        return Ok(false);
    };
    if record.sha256 != file.sha256 || record.mark.size_bytes != file.size_bytes {
        return Ok(false);
    }
    let Some(user) = found(folder.below(&file.path.folder()))? else {
        return Ok(false);
    };
    Ok(user.mark(file.path.file())? == Some(record.mark))
}

fn recorded(folder: &Directory, path: &LoraPath) -> io::Result<Option<super::record::Record>> {
    match Records::open(folder)? {
        Some(records) => records.read(path),
        None => Ok(None),
    }
}

/// Makes the file, and claims its room on the disk, so that a copy that cannot
/// fit is refused before it begins.
fn begin(
    folder: &Directory,
    path: &LoraPath,
    size_bytes: u64,
) -> io::Result<(std::fs::File, Temporary)> {
    let free_bytes = folder.free_bytes()?;
    if free_bytes < size_bytes {
        return Err(io::Error::new(
            ErrorKind::StorageFull,
            TooFull { free_bytes },
        ));
    }
    let (file, temporary) = Temporary::create(folder.below_or_made(&path.folder())?, path.file())?;
    if size_bytes > 0 {
        match fallocate(&file, FallocateFlags::KEEP_SIZE, 0, size_bytes) {
            // Not every file system can.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok((file, temporary))
}

fn remove(folder: &Directory, path: &LoraPath) -> io::Result<()> {
    let Some(records) = Records::open(folder)? else {
        return Ok(());
    };
    let _lock = records.lock()?;
    let Some(record) = records.read(path)? else {
        return Ok(());
    };
    if let Some(user) = found(folder.below(&path.folder()))? {
        if user.mark(path.file())? == Some(record.mark) {
            user.remove_file(path.file())?;
            user.sync()?;
        }
        folder.remove_if_empty(&path.folder())?;
    }
    records.remove(path)
}

fn usage(folder: &Directory) -> io::Result<FolderUsage> {
    let records = match Records::open(folder)? {
        Some(records) => records.all()?,
        None => Vec::new(),
    };
    let mut ours_bytes = 0;
    for (path, record) in records {
        let user = found(folder.below(&path.folder())).ok().flatten();
        if let Some(user) = user
            && user.mark(path.file())? == Some(record.mark)
        {
            ours_bytes += record.mark.size_bytes;
        }
    }
    Ok(FolderUsage {
        ours_bytes,
        free_bytes: folder.free_bytes()?,
    })
}
