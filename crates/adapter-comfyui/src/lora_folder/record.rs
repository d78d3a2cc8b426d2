use std::fs::File;
use std::io::{self, Read, Write};

use atelier_domain::digest::Sha256Digest;
use atelier_domain::lora::LoraPath;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use super::directory::{Directory, FileMark};
use super::temporary::Temporary;

/// Where the records are, below the LoRA folder. ComfyUI looks into folders
/// whose name begins with a dot, but lists no `.json` there.
const FOLDER: &str = ".atelier";
const LOCK: &str = "lock";
const EXTENSION: &str = ".json";

/// A record is some 200 bytes; more than this is none of ours.
const MAX_RECORD_BYTES: u64 = 4096;

/// What we know of a file that we installed. It is ours, and unchanged, while
/// it carries the same mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Record {
    pub(super) sha256: Sha256Digest,
    pub(super) mark: FileMark,
}

#[derive(Deserialize, Serialize)]
struct StoredRecord {
    size_bytes: u64,
    sha256: String,
    modified_ns: i128,
    inode: u64,
}

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

    /// Waits until nobody else changes what is recorded, in this process or
    /// another. The lock goes with the file.
    pub(super) fn lock(&self) -> io::Result<File> {
        let file = self.folder.open_or_create(LOCK)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        Ok(file)
    }

    /// Reads a record. One that makes no sense is none: its file then counts
    /// as not installed, which is safe.
    pub(super) fn read(&self, path: &LoraPath) -> io::Result<Option<Record>> {
        let Some(user) = found(self.folder.below(&path.folder()))? else {
            return Ok(None);
        };
        read_record(&user, &name_of(path))
    }

    pub(super) fn write(&self, path: &LoraPath, record: &Record) -> io::Result<()> {
        let stored = StoredRecord {
            size_bytes: record.mark.size_bytes,
            sha256: record.sha256.to_string(),
            modified_ns: record.mark.modified_ns,
            inode: record.mark.inode,
        };
        let (mut file, temporary) =
            Temporary::create(self.folder.below_or_made(&path.folder())?, &name_of(path))?;
        file.write_all(&serde_json::to_vec(&stored)?)?;
        file.sync_all()?;
        temporary.keep_as(&name_of(path))
    }

    pub(super) fn remove(&self, path: &LoraPath) -> io::Result<()> {
        let Some(user) = found(self.folder.below(&path.folder()))? else {
            return Ok(());
        };
        user.remove_file(&name_of(path))?;
        self.folder.remove_if_empty(&path.folder())
    }

    /// Every file that is recorded.
    pub(super) fn all(&self) -> io::Result<Vec<(LoraPath, Record)>> {
        let mut all = Vec::new();
        for folder in self
            .folder
            .names()?
            .into_iter()
            .filter(|name| name.starts_with("user-"))
        {
            let Some(user) = found(self.folder.below(&folder))? else {
                continue;
            };
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

    /// The directories of which each may hold leftovers.
    pub(super) fn directories(&self) -> io::Result<Vec<Directory>> {
        let users = self
            .folder
            .names()?
            .into_iter()
            .filter(|name| name.starts_with("user-"));
        users
            .filter_map(|name| found(self.folder.below(&name)).transpose())
            .collect()
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
    let mut text = Vec::new();
    file.take(MAX_RECORD_BYTES).read_to_end(&mut text)?;
    let stored = serde_json::from_slice::<StoredRecord>(&text).ok();
    Ok(stored.and_then(|stored| {
        Some(Record {
            sha256: stored.sha256.parse().ok()?,
            mark: FileMark {
                size_bytes: stored.size_bytes,
                modified_ns: stored.modified_ns,
                inode: stored.inode,
            },
        })
    }))
}
