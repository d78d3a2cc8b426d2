use std::collections::BTreeMap;

use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{InstalledLora, LoraFile, LoraFolderError};
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};

use crate::build::sha256_of;

/// What is in the folder.
#[derive(Debug)]
pub(super) struct FolderState {
    pub(super) files: BTreeMap<LoraPath, Stored>,
    /// The paths that are being installed, and how many bytes each will have.
    pub(super) installing: BTreeMap<LoraPath, u64>,
    pub(super) set_aside: Vec<(LoraPath, Bytes)>,
    pub(super) capacity_bytes: u64,
    pub(super) quota_bytes: Option<u64>,
    pub(super) installs: u64,
    /// The last time that was noted, so that the next is later.
    pub(super) latest: DateTime<Utc>,
}

#[derive(Debug)]
pub(super) struct Stored {
    pub(super) bytes: Bytes,
    /// What is recorded of it; `None` once anybody else wrote, or the records
    /// were lost.
    pub(super) recorded: Option<InstalledLora>,
}

impl FolderState {
    pub(super) fn used_bytes(&self) -> u64 {
        let files = self.files.values().map(|file| &file.bytes);
        let aside = self.set_aside.iter().map(|(_, bytes)| bytes);
        let stored: u64 = files.chain(aside).map(|bytes| bytes.len() as u64).sum();
        stored + self.reserved_bytes()
    }

    pub(super) fn ours_bytes(&self) -> u64 {
        let ours = self
            .files
            .values()
            .filter_map(|stored| stored.recorded.as_ref());
        let installed: u64 = ours.map(|known| known.file.size_bytes).sum();
        installed + self.reserved_bytes()
    }

    fn reserved_bytes(&self) -> u64 {
        self.installing.values().sum()
    }

    pub(super) fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.used_bytes())
    }

    pub(super) fn room_for(&self, needed_bytes: u64) -> Result<(), LoraFolderError> {
        let quota = self.quota_bytes.unwrap_or(u64::MAX);
        let available_bytes = self
            .free_bytes()
            .min(quota.saturating_sub(self.ours_bytes()));
        if needed_bytes > available_bytes {
            return Err(LoraFolderError::Full {
                needed_bytes,
                available_bytes,
            });
        }
        Ok(())
    }

    /// A time after every other that was noted.
    pub(super) fn next_time(&mut self, now: DateTime<Utc>) -> DateTime<Utc> {
        self.latest = now.max(self.latest + TimeDelta::microseconds(1));
        self.latest
    }

    /// Whether the very file is there, by its record or else by its bytes;
    /// notes the use.
    pub(super) fn verify(&mut self, file: &LoraFile, now: DateTime<Utc>) -> bool {
        let last_used = self.next_time(now);
        let Some(stored) = self.files.get_mut(&file.path) else {
            return false;
        };
        let is_it = match &stored.recorded {
            Some(known) => known.file == *file,
            None => {
                stored.bytes.len() as u64 == file.size_bytes
                    && sha256_of(&stored.bytes) == file.sha256
            }
        };
        if is_it {
            stored.recorded = Some(InstalledLora {
                file: file.clone(),
                last_used,
            });
        }
        is_it
    }

    /// Puts a file in its place; what is not ours is kept aside.
    pub(super) fn place(&mut self, file: LoraFile, bytes: Bytes, now: DateTime<Utc>) {
        let last_used = self.next_time(now);
        self.installs += 1;
        let path = file.path.clone();
        let recorded = Some(InstalledLora { file, last_used });
        let before = self.files.insert(path.clone(), Stored { bytes, recorded });
        if let Some(foreign) = before.filter(|before| before.recorded.is_none()) {
            self.set_aside.push((path, foreign.bytes));
        }
    }
}
