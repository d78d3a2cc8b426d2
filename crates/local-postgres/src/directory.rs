//! The directory of a cluster: which one, and what is where in it.

use std::fmt::Write;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Component, Path, PathBuf};

use crate::account::Account;
use crate::error::Error;
use crate::lock::DirectoryLock;
use crate::options::ClusterOptions;
use crate::step::{Progress, Step};
use crate::temporary::{self, PrivateDirectory};

/// The folder of a private directory which holds the server's socket.
pub(crate) const SOCKET: &str = "socket";

const DATA: &str = "data";

/// The longest name of a folder, in bytes.
const LONGEST_NAME: usize = 255;

/// A directory in which this process, and no other, runs a cluster.
#[derive(Debug)]
pub(crate) struct ClusterDirectory {
    root: PathBuf,
    account: Option<Account>,
    // Fields are dropped in this order: the socket is gone before the lock is free.
    private: PrivateDirectory,
    _lock: Option<DirectoryLock>,
}

impl ClusterDirectory {
    /// Makes the directory if need be and takes it for this process.
    ///
    /// # Errors
    /// [`Error::InUse`], [`Error::NotACluster`], [`Error::Files`], [`Error::NoSocketDirectory`].
    pub(crate) fn open(
        options: &ClusterOptions,
        progress: &mut Progress<'_>,
    ) -> Result<Self, Error> {
        temporary::sweep(progress);
        let opened = if let Some(asked) = &options.directory {
            let (root, account) = place(&resolve(asked)?, &options.unreachable_fallback, progress)?;
            make_passable(&root, account.is_some())?;
            let lock = DirectoryLock::acquire(&root)?;
            Self {
                private: PrivateDirectory::create(account.as_ref())?,
                root,
                account,
                _lock: Some(lock),
            }
        } else {
            let account = Account::for_server(Path::new(""));
            let private = PrivateDirectory::create(account.as_ref())?;
            Self {
                root: private.path().to_path_buf(),
                account,
                private,
                _lock: None,
            }
        };
        opened.remove_half_made()?;
        opened.make_for_server(&opened.socket())?;
        let data = opened.data();
        if opened.major().is_none()
            && fs::read_dir(&data).is_ok_and(|mut entries| entries.next().is_some())
        {
            return Err(Error::NotACluster { data });
        }
        Ok(opened)
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn account(&self) -> Option<&Account> {
        self.account.as_ref()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.root.join(DATA)
    }

    /// Where a cluster is made; it becomes [`data`](Self::data) when it is whole.
    pub(crate) fn unfinished_data(&self) -> PathBuf {
        self.root.join(format!("{DATA}.new.{}", std::process::id()))
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("postgres.log")
    }

    /// The log, if it is there still when the directory is given up.
    pub(crate) fn lasting_log(&self) -> Option<PathBuf> {
        (self.root != self.private.path()).then(|| self.log())
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.private.path().join(SOCKET)
    }

    pub(crate) fn certificate(&self) -> PathBuf {
        self.private.path().join("server.crt")
    }

    pub(crate) fn key(&self) -> PathBuf {
        self.private.path().join("server.key")
    }

    /// The major version of the cluster in it, `None` if there is none yet.
    pub(crate) fn major(&self) -> Option<u32> {
        fs::read_to_string(self.data().join("PG_VERSION"))
            .ok()?
            .trim()
            .parse()
            .ok()
    }

    /// Makes a directory which belongs to the server's user alone.
    pub(crate) fn make_for_server(&self, path: &Path) -> Result<(), Error> {
        fs::create_dir(path).map_err(Error::files("make", path))?;
        self.give_to_server(path, 0o700)
    }

    pub(crate) fn give_to_server(&self, path: &Path, mode: u32) -> Result<(), Error> {
        fs::set_permissions(path, Permissions::from_mode(mode))
            .map_err(Error::files("close", path))?;
        let Some(account) = &self.account else {
            return Ok(());
        };
        chown(path, Some(account.uid), Some(account.gid))
            .map_err(Error::files("change the owner of", path))
    }

    fn remove_half_made(&self) -> Result<(), Error> {
        let entries = fs::read_dir(&self.root).map_err(Error::files("list", &self.root))?;
        for entry in entries.flatten() {
            if entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(format!("{DATA}.new.").as_bytes())
            {
                fs::remove_dir_all(entry.path()).map_err(Error::files("remove", &entry.path()))?;
            }
        }
        Ok(())
    }
}

/// Returns `path` without links in the part of it that exists.
fn resolve(path: &Path) -> Result<PathBuf, Error> {
    let absolute = std::path::absolute(path).map_err(Error::files("resolve", path))?;
    let existing = absolute
        .ancestors()
        .find(|ancestor| ancestor.exists())
        .unwrap_or(Path::new("/"));
    let missing = absolute.strip_prefix(existing).unwrap_or(Path::new(""));
    if missing
        .components()
        .any(|component| component == Component::ParentDir)
    {
        let reason = format!(
            "{} has `..` behind a folder which does not exist",
            path.display()
        );
        return Err(Error::Option {
            option: "the directory",
            reason,
        });
    }
    let existing = existing
        .canonicalize()
        .map_err(Error::files("resolve", existing))?;
    // Joining an empty path would end it in a slash.
    Ok(if missing.as_os_str().is_empty() {
        existing
    } else {
        existing.join(missing)
    })
}

/// Chooses the directory and the user of the server.
fn place(
    asked: &Path,
    fallback: &Path,
    progress: &mut Progress<'_>,
) -> Result<(PathBuf, Option<Account>), Error> {
    let Some(account) = Account::for_server(&asked.join(DATA)) else {
        return Ok((asked.to_path_buf(), None));
    };
    let moved = fallback.join(mangled(asked)?);
    let is_cluster = |root: &Path| root.join(DATA).join("PG_VERSION").is_file();
    // Once moved it stays there, even if the directory asked for is opened up: the data is what
    // counts.
    let was_moved = is_cluster(&moved) && !is_cluster(asked);
    if account.can_enter(asked) && !was_moved {
        return Ok((asked.to_path_buf(), Some(account)));
    }
    let account = Account::for_server(&moved.join(DATA)).unwrap_or(account);
    let user = account.name.clone();
    progress(&Step::Moved {
        asked: asked.to_path_buf(),
        used: moved.clone(),
        user,
    });
    Ok((moved, Some(account)))
}

/// Returns one folder name for a whole path; no two paths have the same.
fn mangled(path: &Path) -> Result<String, Error> {
    let mut name = String::new();
    for byte in path.as_os_str().as_encoded_bytes().iter().skip(1) {
        match byte {
            b'/' => name.push('_'),
            b'.' | b'-' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => name.push(char::from(*byte)),
            // Writing to a string cannot fail.
            other => drop(write!(name, "%{other:02X}")),
        }
    }
    if (1..=LONGEST_NAME).contains(&name.len()) {
        return Ok(name);
    }
    let reason = format!("{} is too long for the name of one folder", path.display());
    Err(Error::Option {
        option: "the directory",
        reason,
    })
}

/// Makes `root` and what is missing above it; with `passable`, other users may pass through (not
/// list) what we made.
fn make_passable(root: &Path, passable: bool) -> Result<(), Error> {
    let missing: Vec<_> = root
        .ancestors()
        .take_while(|ancestor| !ancestor.exists())
        .collect();
    fs::create_dir_all(root).map_err(Error::files("make", root))?;
    let mode = if passable { 0o711 } else { 0o700 };
    for made in missing {
        fs::set_permissions(made, Permissions::from_mode(mode))
            .map_err(Error::files("open up", made))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mangled_names_are_readable_and_never_the_same() {
        assert_eq!(
            mangled(Path::new("/root/x/.atelier")).unwrap(),
            "root_x_.atelier"
        );
        assert_eq!(
            mangled(Path::new("/root_x/.atelier")).unwrap(),
            "root%5Fx_.atelier"
        );
        mangled(Path::new(&format!("/{}", "x".repeat(300)))).unwrap_err();
        mangled(Path::new("/")).unwrap_err();
    }

    #[test]
    fn links_are_resolved_in_the_part_that_exists() {
        let base = tempfile::tempdir().unwrap();
        let base = base.path().canonicalize().unwrap();
        fs::create_dir(base.join("real")).unwrap();
        std::os::unix::fs::symlink(base.join("real"), base.join("link")).unwrap();

        assert_eq!(
            resolve(&base.join("link/new/deep")).unwrap(),
            base.join("real/new/deep")
        );
        assert_eq!(resolve(&base.join("link")).unwrap(), base.join("real"));
        resolve(&base.join("missing/../other")).unwrap_err();
    }

    #[test]
    fn missing_folders_are_made_private_unless_another_user_must_pass() {
        let base = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;

        make_passable(&base.path().join("a/b"), true).unwrap();
        make_passable(&base.path().join("c/d"), false).unwrap();

        assert_eq!(mode(&base.path().join("a")), 0o711);
        assert_eq!(mode(&base.path().join("a/b")), 0o711);
        assert_eq!(mode(&base.path().join("c/d")), 0o700);
    }
}
