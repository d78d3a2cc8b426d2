//! The data directory of `atelier local`.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use url::Url;
use uuid::Uuid;

use super::LocalError;

/// Others may pass through it, since Postgres runs as another user where we are root; they see
/// nothing.
const MODE: u32 = 0o711;

/// Where everything is kept.
#[derive(Clone, Debug)]
pub(super) struct DataDir(PathBuf);

impl DataDir {
    /// Opens the directory, which is made where it is missing.
    pub(super) fn open(path: &Path) -> Result<Self, LocalError> {
        let made = std::path::absolute(path).and_then(|path| {
            let existed = path.exists();
            DirBuilder::new().recursive(true).mode(MODE).create(&path)?;
            if !existed {
                // The mode above was cut by the umask.
                fs::set_permissions(&path, Permissions::from_mode(MODE))?;
            }
            Ok(path)
        });
        made.map(Self).map_err(|source| LocalError::DataDir {
            path: path.to_owned(),
            source,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The folder of the objects, as an address.
    pub(super) fn objects_url(&self) -> Result<String, LocalError> {
        let folder = self.0.join("objects");
        Url::from_file_path(&folder)
            .map(String::from)
            .map_err(|()| self.failed("objects", io::Error::other("it has no file URL")))
    }

    /// The secret that signs this directory's tokens.
    pub(super) fn jwt_secret(&self) -> Result<String, LocalError> {
        self.remembered("jwt-secret", || {
            format!("{}{}", random().simple(), random().simple())
        })
    }

    /// The demo user.
    pub(super) fn demo_user(&self) -> Result<Uuid, LocalError> {
        let text = self.remembered("demo-user", || random().to_string())?;
        text.parse()
            .map_err(|error| self.failed("demo-user", io::Error::other(error)))
    }

    pub(super) fn sample_is_done(&self) -> bool {
        self.0.join("sample-job-done").exists()
    }

    pub(super) fn note_sample_done(&self) -> Result<(), LocalError> {
        self.remembered("sample-job-done", String::new).map(drop)
    }

    /// What a file holds; the file is made, for our eyes alone, where it is missing.
    fn remembered(&self, name: &str, make: impl FnOnce() -> String) -> Result<String, LocalError> {
        let path = self.0.join(name);
        let text = match fs::read_to_string(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let text = make();
                // Written aside first, so that a crash leaves no half of it.
                let aside = self.0.join(format!("{name}.new"));
                OpenOptions::new()
                    .write(true)
                    .create(true)
                    .truncate(true)
                    .mode(0o600)
                    .open(&aside)
                    .and_then(|mut file| {
                        file.write_all(text.as_bytes())?;
                        file.sync_all()
                    })
                    .and_then(|()| fs::rename(&aside, &path))
                    .map(|()| text)
            }
            other => other,
        };
        text.map(|text| text.trim().to_owned())
            .map_err(|source| self.failed(name, source))
    }

    fn failed(&self, name: &str, source: io::Error) -> LocalError {
        LocalError::DataDir {
            path: self.0.join(name),
            source,
        }
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "a secret needs all the randomness of version 4"
)]
fn random() -> Uuid {
    Uuid::new_v4()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secret_and_user_are_the_same_at_the_next_start() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("data");

        let first = DataDir::open(&path).unwrap();
        let second = DataDir::open(&path).unwrap();

        assert_eq!(first.jwt_secret().unwrap(), second.jwt_secret().unwrap());
        assert_eq!(first.demo_user().unwrap(), second.demo_user().unwrap());
        assert_eq!(first.jwt_secret().unwrap().len(), 64);
    }

    #[test]
    fn the_secret_is_for_our_eyes_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data_dir = DataDir::open(folder.path()).unwrap();

        data_dir.jwt_secret().unwrap();

        let metadata = fs::metadata(folder.path().join("jwt-secret")).unwrap();
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
    }
}
