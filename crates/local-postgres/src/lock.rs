//! One process per directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::OFlags;

use crate::error::Error;

const FILE_NAME: &str = "launcher.lock";

/// How long a lock is waited for. Programs that another thread of the holder is just starting hold
/// it too, for the moment between fork and exec.
const PATIENCE: Duration = Duration::from_millis(300);

/// A directory held by this process. The system releases it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct DirectoryLock {
    file: File,
    path: PathBuf,
}

impl DirectoryLock {
    /// Takes `directory` for this process.
    ///
    /// # Errors
    /// [`Error::InUse`] while another process has it.
    pub(crate) fn acquire(directory: &Path) -> Result<Self, Error> {
        let path = directory.join(FILE_NAME);
        let file = open(&path, true).map_err(Error::files("open", &path))?;
        let begun = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if begun.elapsed() < PATIENCE => {
                    thread::sleep(Duration::from_millis(10));
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(Error::InUse {
                        directory: directory.to_path_buf(),
                        pid: recorded_pid(&file),
                    });
                }
                Err(TryLockError::Error(source)) => {
                    return Err(Error::files("lock", &path)(source));
                }
            }
        }
        let mut lock = Self { file, path };
        lock.record_pid()
            .map_err(Error::files("write", &directory.join(FILE_NAME)))?;
        Ok(lock)
    }

    /// Takes a directory whose owner may be gone; `None` when it is in use or was never taken.
    pub(crate) fn acquire_abandoned(directory: &Path) -> Option<Self> {
        let path = directory.join(FILE_NAME);
        let file = open(&path, false).ok()?;
        file.try_lock().ok()?;
        let lock = Self { file, path };
        lock.still_there().then_some(lock)
    }

    /// Tells whether the locked file is still the one in the directory, rather than one that was
    /// removed meanwhile.
    pub(crate) fn still_there(&self) -> bool {
        let (Ok(ours), Ok(theirs)) = (self.file.metadata(), fs::symlink_metadata(&self.path))
        else {
            return false;
        };
        ours.ino() == theirs.ino() && ours.dev() == theirs.dev()
    }

    fn record_pid(&mut self) -> io::Result<()> {
        self.file.set_len(0)?;
        write!(self.file, "{}", std::process::id())
    }
}

fn open(path: &Path, create: bool) -> io::Result<File> {
    // Neither through a link nor into a pipe: the temporary directory belongs to everybody.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits();
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(create)
        .truncate(false)
        .mode(0o600)
        .custom_flags(i32::from_ne_bytes(flags.to_ne_bytes()))
        .open(path)
}

fn recorded_pid(file: &File) -> Option<u32> {
    let mut text = String::new();
    file.take(20).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_who_has_it() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryLock::acquire(directory.path()).unwrap();

        let second = DirectoryLock::acquire(directory.path()).unwrap_err();

        assert!(
            second.to_string().contains(&std::process::id().to_string()),
            "{second}"
        );
        drop(first);
        DirectoryLock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn only_an_abandoned_directory_can_be_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        assert!(
            DirectoryLock::acquire_abandoned(directory.path()).is_none(),
            "never taken"
        );
        let held = DirectoryLock::acquire(directory.path()).unwrap();

        assert!(
            DirectoryLock::acquire_abandoned(directory.path()).is_none(),
            "in use"
        );
        drop(held);

        assert!(DirectoryLock::acquire_abandoned(directory.path()).is_some());
    }

    #[test]
    fn a_link_in_place_of_the_lock_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let victim = directory.path().join("victim");
        fs::write(&victim, "precious").unwrap();
        std::os::unix::fs::symlink(&victim, directory.path().join(FILE_NAME)).unwrap();

        DirectoryLock::acquire(directory.path()).unwrap_err();

        assert_eq!(fs::read_to_string(&victim).unwrap(), "precious");
    }
}
