use std::sync::Arc;

use async_trait::async_trait;
use atelier_domain::digest::Sha256Digest;
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{
    FolderUsage, InstallStart, InstalledLora, LoraFile, LoraFolder, LoraFolderError, LoraPresence,
};
use rustix::fs::{Access, access};
use tokio_util::sync::CancellationToken;

use super::clean::{adopt, evict, installed, remove, sweep, unrecorded};
use super::install::install;
use super::room::usage;
use super::root::{LoraFolderOptions, Root};
use super::verify::is_verified;

/// A backend's `models/loras`, mounted on this machine.
///
/// A file stands at `{folder}/user-{uuid}/{file}`, and what we know of it at
/// `{folder}/.atelier/user-{uuid}/{file}.json`: its size, digest, inode and
/// times of modification and change. It is trusted while all of these fit. Bytes
/// changed in place are noticed, also at the same size and with the old time of
/// modification put back. Not noticed is a disk that hands out other bytes of
/// itself, nor a change by somebody who sets the system's clock back for it, nor
/// one within the second of the installation on a file system that tells no
/// shorter times. Where something does not fit, or there is no record, the file
/// is read: the digest of its bytes decides.
///
/// What stands in a file's place and is not ours is moved to
/// `{file}.foreign-{n}`, which ComfyUI does not list. What is on its way is
/// `{file}.atelier.part`.
///
/// Several processes may use the same folder: they agree by locks on files,
/// which the system frees when a process dies. Directory times are left alone,
/// since ComfyUI goes by them (`reference/comfyui/PROTOCOL.md` section 9).
#[derive(Clone, Debug)]
pub struct MountedLoraFolder {
    root: Arc<Root>,
}

impl MountedLoraFolder {
    /// Names a folder; nothing is touched yet.
    pub fn new(options: LoraFolderOptions) -> Self {
        Self {
            root: Arc::new(Root(options)),
        }
    }
}

#[async_trait]
impl LoraFolder for MountedLoraFolder {
    async fn presence(&self, file: &LoraFile) -> Result<LoraPresence, LoraFolderError> {
        let (file, gone) = (file.clone(), CancellationToken::new());
        let _guard = gone.clone().drop_guard();
        let verified = self
            .root
            .work(move |folder| is_verified(folder, &file, &gone))
            .await?;
        Ok(if verified {
            LoraPresence::Verified
        } else {
            LoraPresence::Absent
        })
    }

    async fn install(&self, file: LoraFile) -> Result<InstallStart, LoraFolderError> {
        install(&self.root, file).await
    }

    async fn installed(&self) -> Result<Vec<InstalledLora>, LoraFolderError> {
        self.root.work(installed).await
    }

    async fn evict(&self, seen: &InstalledLora) -> Result<bool, LoraFolderError> {
        let seen = seen.clone();
        self.root.work(move |folder| evict(folder, &seen)).await
    }

    async fn unrecorded(&self) -> Result<Vec<LoraPath>, LoraFolderError> {
        self.root.work(unrecorded).await
    }

    async fn adopt(&self, path: &LoraPath, sha256: Sha256Digest) -> Result<bool, LoraFolderError> {
        let (path, gone) = (path.clone(), CancellationToken::new());
        let _guard = gone.clone().drop_guard();
        self.root
            .work(move |folder| adopt(folder, &path, sha256, &gone))
            .await
    }

    async fn remove(&self, path: &LoraPath) -> Result<(), LoraFolderError> {
        let (path, gone) = (path.clone(), CancellationToken::new());
        let _guard = gone.clone().drop_guard();
        self.root
            .work(move |folder| remove(folder, &path, &gone))
            .await
    }

    async fn usage(&self) -> Result<FolderUsage, LoraFolderError> {
        let options = self.root.0.clone();
        self.root.work(move |folder| usage(folder, &options)).await
    }

    async fn check(&self) -> Result<(), LoraFolderError> {
        let path = self.root.0.folder.clone();
        self.root
            .work(move |folder| {
                access(&path, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?;
                sweep(folder)
            })
            .await
    }
}
