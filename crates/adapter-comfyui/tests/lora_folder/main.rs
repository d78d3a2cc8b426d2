//! The LoRA folder on a real file system.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "what these stumble over is a failed test"
)]

mod files;
mod processes;
mod room;

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use atelier_comfyui::{LoraFolderOptions, MountedLoraFolder};
use atelier_domain::ids::UserId;
use atelier_domain::lora::{LoraFilename, LoraPath};
use atelier_domain::ports::{
    InstallStart, LoraFile, LoraFolder, LoraFolderError, LoraInstall, LoraPresence,
};
use atelier_testkit::build::sha256_of;
use atelier_testkit::conformance::lora_folder::Harness;
use atelier_testkit::{DirectoryBackdoor, random_id};
use bytes::Bytes;
use tempfile::TempDir;

const QUOTA_BYTES: u64 = 60_000;

fn harness() -> Harness {
    let directory = tempfile::tempdir().unwrap();
    Harness {
        folder: Arc::new(MountedLoraFolder::new(LoraFolderOptions {
            quota_bytes: Some(QUOTA_BYTES),
            ..options(directory.path())
        })),
        backdoor: Arc::new(DirectoryBackdoor::new(directory.path())),
        quota_bytes: QUOTA_BYTES,
        keep_alive: Arc::new(directory),
    }
}

atelier_testkit::lora_folder_conformance!(std::future::ready(harness()));

fn options(folder: impl Into<PathBuf>) -> LoraFolderOptions {
    LoraFolderOptions {
        folder: folder.into(),
        quota_bytes: None,
        keep_free_bytes: 0,
    }
}

struct Mounted {
    directory: TempDir,
    folder: MountedLoraFolder,
    path: LoraPath,
}

impl Mounted {
    fn new() -> Self {
        Self::with(|_options| {})
    }

    fn with(change: impl FnOnce(&mut LoraFolderOptions)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut options = options(directory.path());
        change(&mut options);
        Self {
            folder: MountedLoraFolder::new(options),
            directory,
            path: LoraPath::first(
                UserId::new(random_id()),
                &LoraFilename::parse("style.safetensors").unwrap(),
            ),
        }
    }

    /// As another process sees the folder.
    fn other_instance(&self) -> MountedLoraFolder {
        MountedLoraFolder::new(options(self.directory.path()))
    }

    fn other_instance_with_quota(&self, quota_bytes: u64) -> MountedLoraFolder {
        MountedLoraFolder::new(LoraFolderOptions {
            quota_bytes: Some(quota_bytes),
            ..options(self.directory.path())
        })
    }

    fn file(&self, bytes: &Bytes) -> LoraFile {
        LoraFile {
            path: self.path.clone(),
            size_bytes: bytes.len() as u64,
            sha256: sha256_of(bytes),
        }
    }

    async fn begun(&self, bytes: &Bytes) -> Box<dyn LoraInstall> {
        begun(self.folder.install(self.file(bytes)).await.unwrap())
    }

    async fn install(&self, bytes: &Bytes) -> Result<(), LoraFolderError> {
        let mut install = begun(self.folder.install(self.file(bytes)).await?);
        install.write(bytes.clone()).await?;
        install.finish().await
    }

    async fn is_verified(&self, bytes: &Bytes) -> bool {
        self.folder.presence(&self.file(bytes)).await.unwrap() == LoraPresence::Verified
    }

    fn on_disk(&self) -> PathBuf {
        self.directory.path().join(self.path.to_string())
    }

    fn part(&self) -> PathBuf {
        self.on_disk()
            .with_file_name("style.safetensors.atelier.part")
    }

    fn record(&self) -> PathBuf {
        self.directory
            .path()
            .join(".atelier")
            .join(format!("{}.json", self.path))
    }

    /// The names in the user's folder, sorted.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(self.directory.path().join(self.path.folder()))
            .map(|entries| {
                entries
                    .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                    .collect()
            })
            .unwrap_or_default();
        names.sort();
        names
    }
}

fn begun(start: InstallStart) -> Box<dyn LoraInstall> {
    match start {
        InstallStart::Begun(install) => install,
        InstallStart::AlreadyThere => panic!("the file is there already"),
    }
}

fn bytes(seed: u8, length: usize) -> Bytes {
    (0..length)
        .map(|index| index.to_le_bytes()[0].wrapping_mul(31) ^ seed)
        .collect()
}
