use std::io;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::directory::{Directory, FileMark};
use super::record::{Records, found};
use super::temporary::is_temporary;

/// An install touches its file far more often.
const STALE_AFTER: Duration = Duration::from_hours(1);

/// Removes what crashed installs left behind.
pub(super) fn sweep(root: &Directory) -> io::Result<()> {
    let mut directories = match Records::open(root)? {
        Some(records) => records.directories()?,
        None => Vec::new(),
    };
    for name in root
        .names()?
        .into_iter()
        .filter(|name| name.starts_with("user-"))
    {
        // What cannot be opened is a link or a file, so none of ours.
        if let Ok(Some(user)) = found(root.below(&name)) {
            directories.push(user);
        }
    }
    directories.iter().try_for_each(sweep_directory)
}

fn sweep_directory(directory: &Directory) -> io::Result<()> {
    for name in directory
        .names()?
        .into_iter()
        .filter(|name| is_temporary(name))
    {
        if directory.mark(&name)?.is_some_and(is_stale) {
            directory.remove_file(&name)?;
        }
    }
    Ok(())
}

/// Against the system's clock, since that is what the file system uses.
fn is_stale(mark: FileMark) -> bool {
    let modified = u64::try_from(mark.modified_ns).map_or(Duration::ZERO, Duration::from_nanos);
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    now.saturating_sub(modified) > STALE_AFTER
}
