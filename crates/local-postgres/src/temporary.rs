//! Private directories under the temporary directory, and their removal after a crash.

use std::collections::hash_map::RandomState;
use std::fs::{self, DirBuilder, Permissions};
use std::hash::BuildHasher;
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;

use crate::account::Account;
use crate::directory::SOCKET;
use crate::error::Error;
use crate::lock::DirectoryLock;
use crate::orphan;
use crate::step::{Progress, Step};

const PREFIX: &str = "atelier-pg-";

/// The longest path of a socket, in bytes, which every Unix takes.
const LONGEST_SOCKET_PATH: usize = 103;

/// How long the server of a killed process may take to end before its directory is left for the
/// next time.
const ORPHAN_PATIENCE: Duration = Duration::from_secs(10);

/// A directory of this process alone, removed with everything in it when dropped.
#[derive(Debug)]
pub(crate) struct PrivateDirectory {
    path: PathBuf,
    // Held for its whole life: a directory whose lock is free is swept by the next start.
    _lock: DirectoryLock,
}

impl PrivateDirectory {
    /// Makes a directory which `account` may pass through, to reach the parts that are given to it.
    pub(crate) fn create(account: Option<&Account>) -> Result<Self, Error> {
        let base = base(&std::env::temp_dir(), account)?;
        loop {
            let path = base.join(format!(
                "{PREFIX}{:012x}",
                RandomState::new().hash_one(0) & 0xffff_ffff_ffff
            ));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
                Err(error) => return Err(Error::files("make", &path)(error)),
            }
            // A sweep that came between the two steps has taken the directory away: make another
            // one.
            let Ok(lock) = DirectoryLock::acquire(&path) else {
                continue;
            };
            if !lock.still_there() {
                continue;
            }
            let mode = if account.is_some() { 0o711 } else { 0o700 };
            fs::set_permissions(&path, Permissions::from_mode(mode))
                .map_err(Error::files("open up", &path))?;
            return Ok(Self { path, _lock: lock });
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for PrivateDirectory {
    fn drop(&mut self) {
        // What cannot be removed now is swept by the next start.
        drop(fs::remove_dir_all(&self.path));
    }
}

/// Returns the temporary directory whose sockets have a path short enough and open to `account`.
fn base(temporary: &Path, account: Option<&Account>) -> Result<PathBuf, Error> {
    let fits = |base: &&Path| {
        let name = PREFIX.len() + 12 + SOCKET.len() + "///.s.PGSQL.65535".len();
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"/._-".contains(byte);
        base.is_absolute()
            && base.as_os_str().len() + name <= LONGEST_SOCKET_PATH
            // The server takes a list of directories in which commas, quotes and spaces mean
            // something.
            && base.as_os_str().as_encoded_bytes().iter().all(plain)
            && account.is_none_or(|account| account.can_enter(base))
    };
    [temporary, Path::new("/tmp")]
        .into_iter()
        .find(fits)
        .map(Path::to_path_buf)
        .ok_or_else(|| Error::NoSocketDirectory {
            temporary: temporary.to_path_buf(),
        })
}

/// Removes the directories of processes of this user which are gone, and stops the servers in them.
pub(crate) fn sweep(progress: &mut Progress<'_>) {
    let mut bases = vec![std::env::temp_dir(), PathBuf::from("/tmp")];
    bases.dedup();
    for entry in bases.iter().flat_map(fs::read_dir).flatten().flatten() {
        if entry
            .file_name()
            .as_encoded_bytes()
            .starts_with(PREFIX.as_bytes())
        {
            sweep_one(&entry.path(), progress);
        }
    }
}

fn sweep_one(path: &Path, progress: &mut Progress<'_>) {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return;
    };
    if !metadata.is_dir() || metadata.uid() != rustix::process::geteuid().as_raw() {
        return;
    }
    let Some(_lock) = DirectoryLock::acquire_abandoned(path) else {
        return;
    };
    if orphan::stop(&path.join("data"), Signal::QUIT, ORPHAN_PATIENCE, progress).is_err() {
        return;
    }
    if fs::remove_dir_all(path).is_ok() {
        progress(&Step::Swept {
            path: path.to_path_buf(),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_not_swept_and_an_abandoned_one_is() {
        let held = PrivateDirectory::create(None).unwrap();
        let abandoned = held
            .path()
            .with_file_name(format!("{PREFIX}test-{}", std::process::id()));
        fs::create_dir_all(abandoned.join(SOCKET)).unwrap();
        drop(DirectoryLock::acquire(&abandoned).unwrap());

        sweep(&mut |_| {});

        assert!(held.path().is_dir());
        assert!(!abandoned.exists());
    }

    #[test]
    fn a_long_or_odd_temporary_directory_is_passed_over() {
        let long = PathBuf::from(format!("/{}", "x".repeat(90)));

        assert_eq!(base(&long, None).unwrap(), Path::new("/tmp"));
        assert_eq!(base(Path::new("/a,b"), None).unwrap(), Path::new("/tmp"));
        assert_eq!(
            base(Path::new("/var/tmp"), None).unwrap(),
            Path::new("/var/tmp")
        );
    }

    #[test]
    fn dropping_removes_everything() {
        let directory = PrivateDirectory::create(None).unwrap();
        let path = directory.path().to_path_buf();
        fs::write(path.join("file"), "x").unwrap();

        drop(directory);

        assert!(!path.exists());
    }
}
