use std::fs::File;
use std::io::{self, Read, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use atelier_domain::digest::Sha256Digest;
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::{InstalledLora, LoraFile};
use chrono::{DateTime, Utc};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::directory::{Directory, FileMark};
use super::part::user_folders;

/// Where the records are, below the LoRA folder. ComfyUI looks into folders
/// whose name begins with a dot, but lists no `.json` there.
const FOLDER: &str = ".atelier";
const LOCK: &str = "lock";
const EXTENSION: &str = ".json";

/// A record being written; there is one at a time.
const UNFINISHED: &str = ".json.part";

/// A record is some 250 bytes; more than this is none of ours.
const MAX_RECORD_BYTES: u64 = 4096;

/// A step in time that every file system can tell from none.
const COARSE_NS: i128 = 2_000_000_000;

/// What we know of a file that we installed. It is ours, and unchanged, while
/// it carries the same mark. The time of the record's own modification is when
/// the file was last used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) sha256: Sha256Digest,
    pub(super) mark: FileMark,
    pub(super) used_ns: i128,
}

#[derive(Deserialize, Serialize)]
struct StoredRecord {
    size_bytes: u64,
    sha256: String,
    modified_ns: i128,
    changed_ns: i128,
    inode: u64,
}

impl Record {
    /// Whether it is about this file.
    pub(super) fn is_of(&self, file: &LoraFile) -> bool {
        self.sha256 == file.sha256 && self.mark.size_bytes == file.size_bytes
    }

    /// Whether the file still is as it was recorded.
    pub(super) fn fits(&self, folder: &Directory, path: &LoraPath) -> io::Result<bool> {
        // What cannot be opened is a link or a file, so none of ours.
        let Ok(Some(user)) = found(folder.below(&path.folder())) else {
            return Ok(false);
        };
        Ok(user.mark(path.file())? == Some(self.mark))
    }

    pub(super) fn listed(&self, path: LoraPath) -> InstalledLora {
        InstalledLora {
            file: LoraFile {
                path,
                size_bytes: self.mark.size_bytes,
                sha256: self.sha256,
            },
            last_used: time_of(self.used_ns),
        }
    }
}

/// The right to change what is in a LoRA folder, for as long as this lives:
/// nobody else has it, in this process or another.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the lock goes with the file")] File);

/// The records, below a LoRA folder.
#[derive(Debug)]
pub(super) struct Records {
    folder: Directory,
}

impl Records {
    /// Opens the records, and makes their folder if need be.
    pub(super) fn open_or_make(root: &Directory) -> io::Result<Self> {
        Ok(Self {
            folder: root.below_or_made(FOLDER)?,
        })
    }

    /// Opens the records; `None` if there are none.
    pub(super) fn open(root: &Directory) -> io::Result<Option<Self>> {
        found(root.below(FOLDER)).map(|folder| folder.map(|folder| Self { folder }))
    }

    /// Waits until nobody else changes anything, in this process or another.
    pub(super) fn lock(&self) -> io::Result<Lock> {
        let file = self.folder.open_or_create(LOCK)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        Ok(Lock(file))
    }

    /// Reads a record. One that makes no sense is none: its file then counts
    /// as not recorded, which is safe.
    pub(super) fn read(&self, path: &LoraPath) -> io::Result<Option<Record>> {
        let Some(user) = found(self.folder.below(&path.folder()))? else {
            return Ok(None);
        };
        read_record(&user, &name_of(path))
    }

    /// Writes a record, durably; its file is used now.
    pub(super) fn write(
        &self,
        _lock: &Lock,
        path: &LoraPath,
        sha256: Sha256Digest,
        mark: FileMark,
    ) -> io::Result<()> {
        let stored = StoredRecord {
            size_bytes: mark.size_bytes,
            sha256: sha256.to_string(),
            modified_ns: mark.modified_ns,
            changed_ns: mark.changed_ns,
            inode: mark.inode,
        };
        let user = self.folder.below_or_made(&path.folder())?;
        let before = read_record(&user, &name_of(path))?;
        let unfinished = format!("{}{UNFINISHED}", path.file());
        user.remove_file(&unfinished)?;
        let mut file = user.create(&unfinished)?;
        file.write_all(&serde_json::to_vec(&stored)?)?;
        note_use(
            &user,
            &unfinished,
            before.map_or(0, |before| before.used_ns),
        )?;
        file.sync_all()?;
        user.rename(&unfinished, &name_of(path))?;
        user.sync()
    }

    /// Notes that the file of a record is used, not durably.
    pub(super) fn note_use(
        &self,
        _lock: &Lock,
        path: &LoraPath,
        record: &Record,
    ) -> io::Result<()> {
        let user = self.folder.below(&path.folder())?;
        note_use(&user, &name_of(path), record.used_ns)
    }

    pub(super) fn remove(&self, _lock: &Lock, path: &LoraPath) -> io::Result<()> {
        let Some(user) = found(self.folder.below(&path.folder()))? else {
            return Ok(());
        };
        user.remove_file(&name_of(path))?;
        self.folder.remove_if_empty(&path.folder())
    }

    /// Every file that is recorded.
    pub(super) fn all(&self) -> io::Result<Vec<(LoraPath, Record)>> {
        let mut all = Vec::new();
        for (folder, user) in user_folders(&self.folder)? {
            for name in user.names()? {
                let path = name
                    .strip_suffix(EXTENSION)
                    .and_then(|file| LoraPath::parse(&format!("{folder}/{file}")).ok());
                if let Some(path) = path
                    && let Some(record) = read_record(&user, &name)?
                {
                    all.push((path, record));
                }
            }
        }
        Ok(all)
    }

    /// Removes what was left half-written, and folders without a record.
    pub(super) fn sweep(&self, _lock: &Lock) -> io::Result<()> {
        for (folder, user) in user_folders(&self.folder)? {
            for name in user.names()? {
                if name.ends_with(UNFINISHED) {
                    user.remove_file(&name)?;
                }
            }
            self.folder.remove_if_empty(&folder)?;
        }
        Ok(())
    }
}

fn name_of(path: &LoraPath) -> String {
    format!("{}{EXTENSION}", path.file())
}

/// `None` for what is not there.
pub(super) fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read_record(user: &Directory, name: &str) -> io::Result<Option<Record>> {
    let Some(file) = found(user.open_to_read(name))? else {
        return Ok(None);
    };
    let Some(own) = FileMark::of(&rustix::fs::fstat(&file)?) else {
        return Ok(None);
    };
    let mut text = Vec::new();
    file.take(MAX_RECORD_BYTES).read_to_end(&mut text)?;
    let stored = serde_json::from_slice::<StoredRecord>(&text).ok();
    Ok(stored.and_then(|stored| {
        Some(Record {
            sha256: stored.sha256.parse().ok()?,
            mark: FileMark {
                size_bytes: stored.size_bytes,
                modified_ns: stored.modified_ns,
                changed_ns: stored.changed_ns,
                inode: stored.inode,
            },
            used_ns: own.modified_ns,
        })
    }))
}

/// Every use is later than the one before, also where a clock was put back and
/// where a file system keeps whole seconds.
fn note_use(user: &Directory, name: &str, before_ns: i128) -> io::Result<()> {
    for time in [now_ns().max(before_ns + 1), before_ns + COARSE_NS] {
        user.set_modified(name, time)?;
        let noted = user.mark(name)?.map(|mark| mark.modified_ns);
        if noted.is_some_and(|noted| noted > before_ns) {
            break;
        }
    }
    Ok(())
}

/// By the system's clock, since that is what the file system uses.
pub(super) fn now_ns() -> i128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |now| now.as_nanos().try_into().unwrap_or(0))
}

fn time_of(nanoseconds: i128) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(i64::try_from(nanoseconds).unwrap_or(0))
}
