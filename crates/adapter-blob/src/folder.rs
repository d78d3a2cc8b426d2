use std::ffi::OsStr;
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use atelier_domain::ports::BlobError;
use rustix::fs::{Access, access};

use crate::options::BlobOptionsError;

/// An upload that goes on touches its file far more often.
const STALE_AFTER: Duration = Duration::from_hours(24);

/// Makes the folder, for us alone, or takes one that is there.
///
/// `LocalFileSystem` follows links, so nobody else may be able to plant one.
pub(crate) fn prepare(folder: &Path) -> Result<(), BlobOptionsError> {
    let unusable = |error: io::Error| BlobOptionsError::Folder {
        folder: folder.to_owned(),
        source: Box::new(error),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .map_err(unusable)?;
    let metadata = fs::metadata(folder).map_err(unusable)?;
    if metadata.permissions().mode() & 0o002 != 0 {
        return Err(BlobOptionsError::FolderOpenToAll {
            folder: folder.to_owned(),
        });
    }
    Ok(())
}

/// Removes what uploads that were cut off left behind: `{file}#{number}`, a
/// name that no object of ours has.
pub(crate) fn sweep(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        if kind.is_dir() {
            sweep(&entry.path())?;
        } else if kind.is_file() && is_upload(&entry.file_name()) && is_stale(&entry.metadata()?) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn is_upload(name: &OsStr) -> bool {
    let number = name.to_str().and_then(|name| name.rsplit_once('#'));
    number.is_some_and(|(_, number)| {
        !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit())
    })
}

/// Against the system's clock, since that is what the file system uses.
fn is_stale(metadata: &fs::Metadata) -> bool {
    let age = metadata
        .modified()
        .ok()
        .and_then(|modified| SystemTime::now().duration_since(modified).ok());
    age.is_some_and(|age| age > STALE_AFTER)
}

/// Whether the folder is there and can be written.
pub(crate) fn check(folder: &Path) -> Result<(), BlobError> {
    access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| BlobError::Refused(Box::new(io::Error::from(error))))
}
