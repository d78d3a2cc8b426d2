mod backdoor;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::pin::pin;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use atelier_domain::digest::Sha256Digest;
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{
    Clock, FolderUsage, InstallStart, InstalledLora, LoraFile, LoraFolder, LoraFolderError,
    LoraInstall, LoraPresence,
};
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use tokio::sync::Notify;

pub use backdoor::{DirectoryBackdoor, FolderBackdoor};
use state::{FolderState, Stored};

use crate::build::sha256_of;
use crate::{Outage, WallClock};

/// A backend's LoRA folder in memory. Clones share it.
///
/// It does what a mounted folder does: one installs a path at a time, room is
/// reserved, a lost record is made anew from the bytes, and what is not ours is
/// kept aside.
#[derive(Clone)]
pub struct InMemoryLoraFolder {
    state: Arc<Mutex<FolderState>>,
    /// Told whenever an installation ends.
    ended: Arc<Notify>,
    clock: Arc<dyn Clock>,
    outage: Outage,
}

impl fmt::Debug for InMemoryLoraFolder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("InMemoryLoraFolder")
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}

impl InMemoryLoraFolder {
    /// An empty folder on a disk of 1 GiB, without a quota.
    pub fn new() -> Self {
        Self::with_capacity(1 << 30)
    }

    /// An empty folder on a disk of so many bytes, without a quota.
    pub fn with_capacity(capacity_bytes: u64) -> Self {
        Self {
            state: Arc::new(Mutex::new(FolderState {
                files: BTreeMap::new(),
                installing: BTreeMap::new(),
                set_aside: Vec::new(),
                capacity_bytes,
                quota_bytes: None,
                installs: 0,
                latest: DateTime::UNIX_EPOCH,
            })),
            ended: Arc::default(),
            clock: Arc::new(WallClock),
            outage: Outage::default(),
        }
    }

    /// The same folder, with times of use from this clock. Each is later than
    /// the one before, also where the clock stands still.
    #[must_use]
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// Says how many bytes the disk has.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().unwrap().capacity_bytes = bytes;
    }

    /// Says how many bytes our files may have.
    pub fn set_quota(&self, bytes: Option<u64>) {
        self.state.lock().unwrap().quota_bytes = bytes;
    }

    /// Says when a file of ours was last used.
    pub fn set_last_used(&self, path: &LoraPath, last_used: DateTime<Utc>) {
        let mut state = self.state.lock().unwrap();
        let stored = state.files.get_mut(path);
        if let Some(known) = stored.and_then(|stored| stored.recorded.as_mut()) {
            known.last_used = last_used;
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

    /// Begins an installation; `None` while somebody else installs that path.
    fn try_install(&self, file: &LoraFile) -> Result<Option<InstallStart>, LoraFolderError> {
        self.reachable()?;
        let mut state = self.state.lock().unwrap();
        if state.installing.contains_key(&file.path) {
            return Ok(None);
        }
        if state.verify(file, self.clock.now()) {
            return Ok(Some(InstallStart::AlreadyThere));
        }
        state.room_for(file.size_bytes)?;
        state.installing.insert(file.path.clone(), file.size_bytes);
        Ok(Some(InstallStart::Begun(Box::new(InMemoryInstall {
            folder: self.clone(),
            file: file.clone(),
            written: BytesMut::new(),
        }))))
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
            recorded: None,
        };
        self.state
            .lock()
            .unwrap()
            .files
            .insert(path.clone(), stored);
    }

    fn lose(&self, path: &LoraPath) {
        self.state.lock().unwrap().files.remove(path);
    }

    fn lose_records(&self) {
        for stored in self.state.lock().unwrap().files.values_mut() {
            stored.recorded = None;
        }
    }

    fn listed(&self) -> BTreeMap<String, Bytes> {
        let state = self.state.lock().unwrap();
        let files = state.files.iter();
        files
            .map(|(path, file)| (path.to_string(), file.bytes.clone()))
            .collect()
    }

    fn set_aside(&self, path: &LoraPath) -> Vec<Bytes> {
        let state = self.state.lock().unwrap();
        let aside = state.set_aside.iter().filter(|(from, _)| from == path);
        aside.map(|(_, bytes)| bytes.clone()).collect()
    }
}

#[async_trait]
impl LoraFolder for InMemoryLoraFolder {
    async fn presence(&self, file: &LoraFile) -> Result<LoraPresence, LoraFolderError> {
        self.reachable()?;
        let now = self.clock.now();
        Ok(if self.state.lock().unwrap().verify(file, now) {
            LoraPresence::Verified
        } else {
            LoraPresence::Absent
        })
    }

    async fn install(&self, file: LoraFile) -> Result<InstallStart, LoraFolderError> {
        loop {
            let mut ended = pin!(self.ended.notified());
            ended.as_mut().enable();
            if let Some(start) = self.try_install(&file)? {
                return Ok(start);
            }
            ended.await;
        }
    }

    async fn installed(&self) -> Result<Vec<InstalledLora>, LoraFolderError> {
        self.reachable()?;
        let state = self.state.lock().unwrap();
        let ours = state.files.values();
        Ok(ours.filter_map(|stored| stored.recorded.clone()).collect())
    }

    async fn evict(&self, seen: &InstalledLora) -> Result<bool, LoraFolderError> {
        self.reachable()?;
        let mut state = self.state.lock().unwrap();
        let Some(stored) = state.files.get(&seen.file.path) else {
            return Ok(true);
        };
        let may_go = stored
            .recorded
            .as_ref()
            .is_some_and(|known| known.file == seen.file && known.last_used <= seen.last_used);
        if may_go {
            state.files.remove(&seen.file.path);
        }
        Ok(may_go)
    }

    async fn unrecorded(&self) -> Result<Vec<LoraPath>, LoraFolderError> {
        self.reachable()?;
        let state = self.state.lock().unwrap();
        let unknown = state
            .files
            .iter()
            .filter(|(_, stored)| stored.recorded.is_none());
        Ok(unknown.map(|(path, _)| path.clone()).collect())
    }

    async fn adopt(&self, path: &LoraPath, sha256: Sha256Digest) -> Result<bool, LoraFolderError> {
        self.reachable()?;
        let mut state = self.state.lock().unwrap();
        let Some(stored) = state.files.get(path) else {
            return Ok(false);
        };
        let file = LoraFile {
            path: path.clone(),
            size_bytes: stored.bytes.len() as u64,
            sha256,
        };
        Ok(state.verify(&file, self.clock.now()))
    }

    async fn remove(&self, path: &LoraPath) -> Result<(), LoraFolderError> {
        self.reachable()?;
        let mut state = self.state.lock().unwrap();
        if state
            .files
            .get(path)
            .is_some_and(|file| file.recorded.is_some())
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
            free_bytes: state.free_bytes(),
            quota_bytes: state.quota_bytes,
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

    async fn finish(mut self: Box<Self>) -> Result<(), LoraFolderError> {
        self.folder.reachable()?;
        let received = sha256_of(&self.written);
        let received_bytes = self.written.len() as u64;
        if received_bytes != self.file.size_bytes || received != self.file.sha256 {
            return Err(LoraFolderError::WrongBytes {
                path: self.file.path.clone(),
                expected_bytes: self.file.size_bytes,
                expected: self.file.sha256,
                received_bytes,
                received,
            });
        }
        let bytes = std::mem::take(&mut self.written).freeze();
        let now = self.folder.clock.now();
        let mut state = self.folder.state.lock().unwrap();
        state.place(self.file.clone(), bytes, now);
        drop(state);
        Ok(())
    }
}

impl Drop for InMemoryInstall {
    fn drop(&mut self) {
        // A poisoned lock is a test that failed already.
        if let Ok(mut state) = self.folder.state.lock() {
            state.installing.remove(&self.file.path);
        }
        self.folder.ended.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ManualClock, random_id};
    use atelier_domain::ids::UserId;

    fn a_file(bytes: &[u8]) -> LoraFile {
        let owner = UserId::new(random_id());
        LoraFile {
            path: LoraPath::parse(&format!("user-{owner}/a.safetensors")).unwrap(),
            size_bytes: bytes.len() as u64,
            sha256: sha256_of(bytes),
        }
    }

    #[tokio::test]
    async fn a_full_disk_refuses_before_the_bytes_come() {
        let folder = InMemoryLoraFolder::with_capacity(10);

        let refused = folder.install(a_file(b"eleven here")).await.err();

        assert!(
            matches!(
                refused,
                Some(LoraFolderError::Full {
                    needed_bytes: 11,
                    available_bytes: 10
                })
            ),
            "{refused:?}"
        );
    }

    #[tokio::test]
    async fn uses_are_told_apart_also_while_the_clock_stands_still() {
        let folder = InMemoryLoraFolder::new().with_clock(Arc::new(ManualClock::default()));
        let file = a_file(b"bytes");
        folder.overwrite(&file.path, b"bytes");
        folder.presence(&file).await.unwrap();
        let seen = folder.installed().await.unwrap();

        folder.presence(&file).await.unwrap();

        assert!(!folder.evict(&seen[0]).await.unwrap());
        let seen = folder.installed().await.unwrap();
        assert!(folder.evict(&seen[0]).await.unwrap());
    }
}
