use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{
    FolderUsage, LoraFile, LoraFolder, LoraFolderError, LoraInstall, LoraPresence,
};
use bytes::{Bytes, BytesMut};

use crate::Outage;
use crate::build::sha256_of;

/// How tests reach into a LoRA folder past its port, as a person with a shell
/// would.
pub trait FolderBackdoor: Send + Sync {
    /// Writes a file under a path, in place of what is there.
    fn overwrite(&self, path: &LoraPath, bytes: &[u8]);

    /// The files that a backend would list, by their relative names: all
    /// `.safetensors` files, at any depth.
    fn listed(&self) -> BTreeMap<String, Bytes>;
}

/// The backdoor of a real directory.
#[derive(Clone, Debug)]
pub struct DirectoryBackdoor(PathBuf);

impl DirectoryBackdoor {
    /// Reaches into `directory`.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self(directory.into())
    }

    fn collect(&self, directory: &Path, found: &mut BTreeMap<String, Bytes>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                self.collect(&path, found);
            } else if path
                .extension()
                .is_some_and(|extension| extension == "safetensors")
            {
                let name = path.strip_prefix(&self.0).unwrap();
                let name = name.to_str().unwrap().replace('\\', "/");
                found.insert(name, fs::read(&path).unwrap().into());
            }
        }
    }
}

impl FolderBackdoor for DirectoryBackdoor {
    fn overwrite(&self, path: &LoraPath, bytes: &[u8]) {
        fs::create_dir_all(self.0.join(path.folder())).unwrap();
        fs::write(self.0.join(path.to_string()), bytes).unwrap();
    }

    fn listed(&self) -> BTreeMap<String, Bytes> {
        let mut found = BTreeMap::new();
        self.collect(&self.0, &mut found);
        found
    }
}

/// A backend's LoRA folder in memory. Clones share it.
#[derive(Clone, Debug)]
pub struct InMemoryLoraFolder {
    state: Arc<Mutex<FolderState>>,
    outage: Outage,
}

#[derive(Debug)]
struct FolderState {
    files: BTreeMap<LoraPath, Stored>,
    capacity_bytes: u64,
    installs: u64,
}

#[derive(Debug)]
struct Stored {
    bytes: Bytes,
    /// What was recorded when we installed it; `None` once anybody else wrote.
    installed: Option<LoraFile>,
}

impl FolderState {
    fn used_bytes(&self) -> u64 {
        self.files
            .values()
            .map(|file| file.bytes.len() as u64)
            .sum()
    }

    fn ours_bytes(&self) -> u64 {
        let ours = self
            .files
            .values()
            .filter_map(|file| file.installed.as_ref());
        ours.map(|file| file.size_bytes).sum()
    }
}

impl InMemoryLoraFolder {
    /// An empty folder on a disk of 1 GiB.
    pub fn new() -> Self {
        Self::with_capacity(1 << 30)
    }

    /// An empty folder on a disk of so many bytes.
    pub fn with_capacity(capacity_bytes: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(FolderState {
                files: BTreeMap::new(),
                capacity_bytes,
                installs: 0,
            })),
            outage: Outage::default(),
        }
    }

    /// How many installations were finished.
    pub fn installs(&self) -> u64 {
        self.state.lock().unwrap().installs
    }

    /// Makes the folder unwritable.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    fn reachable(&self) -> Result<(), LoraFolderError> {
        match self.outage.source() {
            Some(source) => Err(LoraFolderError::Unwritable {
                folder: "in memory".to_owned(),
                source,
            }),
            None => Ok(()),
        }
    }
}

impl Default for InMemoryLoraFolder {
    fn default() -> Self {
        Self::new()
    }
}

impl FolderBackdoor for InMemoryLoraFolder {
    fn overwrite(&self, path: &LoraPath, bytes: &[u8]) {
        let stored = Stored {
            bytes: Bytes::copy_from_slice(bytes),
            installed: None,
        };
        self.state
            .lock()
            .unwrap()
            .files
            .insert(path.clone(), stored);
    }

    fn listed(&self) -> BTreeMap<String, Bytes> {
        let state = self.state.lock().unwrap();
        let files = state.files.iter();
        files
            .map(|(path, file)| (path.to_string(), file.bytes.clone()))
            .collect()
    }
}

#[async_trait]
impl LoraFolder for InMemoryLoraFolder {
    async fn presence(&self, file: &LoraFile) -> Result<LoraPresence, LoraFolderError> {
        self.reachable()?;
        let state = self.state.lock().unwrap();
        let installed = state
            .files
            .get(&file.path)
            .and_then(|stored| stored.installed.as_ref());
        Ok(if installed == Some(file) {
            LoraPresence::Verified
        } else {
            LoraPresence::Absent
        })
    }

    async fn install(&self, file: LoraFile) -> Result<Box<dyn LoraInstall>, LoraFolderError> {
        self.reachable()?;
        let (used_bytes, capacity_bytes) = {
            let state = self.state.lock().unwrap();
            (state.used_bytes(), state.capacity_bytes)
        };
        if used_bytes + file.size_bytes > capacity_bytes {
            return Err(LoraFolderError::Full {
                needed_bytes: file.size_bytes,
                source: "the disk in memory is full".into(),
            });
        }
        Ok(Box::new(InMemoryInstall {
            folder: self.clone(),
            file,
            written: BytesMut::new(),
        }))
    }

    async fn remove(&self, path: &LoraPath) -> Result<(), LoraFolderError> {
        self.reachable()?;
        let mut state = self.state.lock().unwrap();
        if state
            .files
            .get(path)
            .is_some_and(|file| file.installed.is_some())
        {
            state.files.remove(path);
        }
        Ok(())
    }

    async fn usage(&self) -> Result<FolderUsage, LoraFolderError> {
        self.reachable()?;
        let state = self.state.lock().unwrap();
        Ok(FolderUsage {
            ours_bytes: state.ours_bytes(),
            free_bytes: state.capacity_bytes.saturating_sub(state.used_bytes()),
        })
    }

    async fn check(&self) -> Result<(), LoraFolderError> {
        self.reachable()
    }
}

struct InMemoryInstall {
    folder: InMemoryLoraFolder,
    file: LoraFile,
    written: BytesMut,
}

#[async_trait]
impl LoraInstall for InMemoryInstall {
    async fn write(&mut self, bytes: Bytes) -> Result<(), LoraFolderError> {
        self.folder.reachable()?;
        self.written.extend_from_slice(&bytes);
        Ok(())
    }

    async fn finish(self: Box<Self>) -> Result<(), LoraFolderError> {
        self.folder.reachable()?;
        let received = sha256_of(&self.written);
        let received_bytes = self.written.len() as u64;
        if received_bytes != self.file.size_bytes || received != self.file.sha256 {
            return Err(LoraFolderError::WrongBytes {
                path: self.file.path,
                expected_bytes: self.file.size_bytes,
                expected: self.file.sha256,
                received_bytes,
                received,
            });
        }
        let stored = Stored {
            bytes: self.written.freeze(),
            installed: Some(self.file.clone()),
        };
        let mut state = self.folder.state.lock().unwrap();
        state.installs += 1;
        state.files.insert(self.file.path, stored);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random_id;
    use atelier_domain::ids::UserId;

    #[test]
    fn a_directory_lists_what_a_backend_would_at_any_depth() {
        let directory = tempfile::tempdir().unwrap();
        let backdoor = DirectoryBackdoor::new(directory.path());
        let owner = UserId::new(random_id());
        let path = LoraPath::parse(&format!("user-{owner}/a.safetensors")).unwrap();
        assert_eq!(backdoor.listed(), BTreeMap::new());

        backdoor.overwrite(&path, b"old");
        backdoor.overwrite(&path, b"new");
        fs::write(directory.path().join("b.safetensors.part"), b"unfinished").unwrap();

        let expected = BTreeMap::from([(path.to_string(), Bytes::from_static(b"new"))]);
        assert_eq!(backdoor.listed(), expected);
    }

    #[tokio::test]
    async fn a_full_disk_refuses_before_the_bytes_come() {
        let folder = InMemoryLoraFolder::with_capacity(10);
        let owner = UserId::new(random_id());
        let file = LoraFile {
            path: LoraPath::parse(&format!("user-{owner}/a.safetensors")).unwrap(),
            size_bytes: 11,
            sha256: sha256_of(b"irrelevant"),
        };

        let refused = folder.install(file).await.err();

        assert!(
            matches!(
                refused,
                Some(LoraFolderError::Full {
                    needed_bytes: 11,
                    ..
                })
            ),
            "{refused:?}"
        );
    }
}
