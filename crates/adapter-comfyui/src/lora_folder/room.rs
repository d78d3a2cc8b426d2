use std::io;

use atelier_domain::ports::FolderUsage;

use super::directory::Directory;
use super::part::{LivePart, live_parts};
use super::record::{Lock, Records};
use super::root::LoraFolderOptions;

/// How full the folder is. Without records nothing is ours, and nothing need be
/// made to say so.
pub(super) fn usage(folder: &Directory, options: &LoraFolderOptions) -> io::Result<FolderUsage> {
    let (ours_bytes, installing) = match Records::open(folder)? {
        Some(records) => {
            let lock = records.lock()?;
            let installing = live_parts(&lock, folder)?;
            (ours_bytes(folder, &records, &installing)?, installing)
        }
        None => (0, Vec::new()),
    };
    Ok(FolderUsage {
        ours_bytes,
        free_bytes: free_bytes(folder, options, &installing)?,
        quota_bytes: options.quota_bytes,
    })
}

/// How many bytes there is room for, by the disk and by the quota.
pub(super) fn available_bytes(
    lock: &Lock,
    folder: &Directory,
    records: &Records,
    options: &LoraFolderOptions,
) -> io::Result<u64> {
    let installing = live_parts(lock, folder)?;
    let on_disk = free_bytes(folder, options, &installing)?;
    Ok(match options.quota_bytes {
        Some(quota) => {
            let ours_bytes = ours_bytes(folder, records, &installing)?;
            on_disk.min(quota.saturating_sub(ours_bytes))
        }
        None => on_disk,
    })
}

/// How many bytes our files and those being installed have.
fn ours_bytes(folder: &Directory, records: &Records, installing: &[LivePart]) -> io::Result<u64> {
    let mut bytes = installing.iter().map(|part| part.declared_bytes).sum();
    for (path, record) in records.all()? {
        if record.fits(folder, &path)? {
            bytes += record.mark.size_bytes;
        }
    }
    Ok(bytes)
}

/// How many bytes the disk has left for us. The room of what is being installed
/// is taken, whether it is written yet or not.
fn free_bytes(
    folder: &Directory,
    options: &LoraFolderOptions,
    installing: &[LivePart],
) -> io::Result<u64> {
    let unallocated: u64 = installing.iter().map(|part| part.unallocated_bytes).sum();
    Ok(folder
        .free_bytes()?
        .saturating_sub(options.keep_free_bytes)
        .saturating_sub(unallocated))
}
