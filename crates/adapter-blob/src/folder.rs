use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::Path;

use atelier_domain::ports::BlobError;
use rustix::fs::{Access, access};

use crate::options::BlobOptionsError;

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

/// Whether the folder is there and can be written.
pub(crate) fn check(folder: &Path) -> Result<(), BlobError> {
    access(folder, Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)
        .map_err(|error| BlobError::Refused(Box::new(io::Error::from(error))))
}
