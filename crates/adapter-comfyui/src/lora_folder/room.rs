use std::io;

use super::directory::Directory;
use super::part::live_parts;
use super::record::Records;
use super::root::LoraFolderOptions;

/// How many bytes our files and those being installed have.
pub(super) fn ours_bytes(folder: &Directory) -> io::Result<u64> {
    let installing = live_parts(folder)?;
    let mut bytes = installing.iter().map(|part| part.declared_bytes).sum();
    if let Some(records) = Records::open(folder)? {
        for (path, record) in records.all()? {
            if record.fits(folder, &path)? {
                bytes += record.mark.size_bytes;
            }
        }
    }
    Ok(bytes)
}

/// How many bytes there is room for, by the disk and by the quota.
pub(super) fn available_bytes(folder: &Directory, options: &LoraFolderOptions) -> io::Result<u64> {
    let on_disk = free_bytes(folder, options)?;
    Ok(match options.quota_bytes {
        Some(quota) => on_disk.min(quota.saturating_sub(ours_bytes(folder)?)),
        None => on_disk,
    })
}

/// How many bytes the disk has left for us. The room of what is being installed is taken, whether it is written yet or
/// not.
pub(super) fn free_bytes(folder: &Directory, options: &LoraFolderOptions) -> io::Result<u64> {
    let unallocated: u64 = live_parts(folder)?
        .iter()
        .map(|part| part.unallocated_bytes)
        .sum();
    Ok(folder
        .free_bytes()?
        .saturating_sub(options.keep_free_bytes)
        .saturating_sub(unallocated))
}
