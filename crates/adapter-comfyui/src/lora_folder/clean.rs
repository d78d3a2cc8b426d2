use std::io;

use atelier_domain::digest::Sha256Digest;
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::InstalledLora;
use tokio_util::sync::CancellationToken;

use super::directory::Directory;
use super::part::{live_parts, user_folders};
use super::record::{Lock, Record, Records, found};
use super::verify::{digest_of, record_anew};

/// Our files, as recorded.
pub(super) fn installed(folder: &Directory) -> io::Result<Vec<InstalledLora>> {
    let Some(records) = Records::open(folder)? else {
        return Ok(Vec::new());
    };
    let mut installed = Vec::new();
    for (path, record) in records.all()? {
        if record.fits(folder, &path)? {
            installed.push(record.listed(path));
        }
    }
    Ok(installed)
}

/// What stands at paths of ours and fits no record.
pub(super) fn unrecorded(folder: &Directory) -> io::Result<Vec<LoraPath>> {
    let records = Records::open(folder)?;
    let mut unrecorded = Vec::new();
    for (name, user) in user_folders(folder)? {
        for file in user.names()? {
            let Ok(path) = LoraPath::parse(&format!("{name}/{file}")) else {
                continue;
            };
            let Some(mark) = user.mark(&file)? else {
                continue;
            };
            let record = match &records {
                Some(records) => records.read(&path)?,
                None => None,
            };
            if record.is_none_or(|record| record.mark != mark) {
                unrecorded.push(path);
            }
        }
    }
    Ok(unrecorded)
}

/// Removes a file of ours, unless it is in use or another one by now.
pub(super) fn evict(folder: &Directory, seen: &InstalledLora) -> io::Result<bool> {
    let path = &seen.file.path;
    let Some(records) = Records::open(folder)? else {
        return is_absent(folder, path);
    };
    let lock = records.lock()?;
    let Some(record) = records.read(path)? else {
        return is_absent(folder, path);
    };
    let may_go = record.is_of(&seen.file)
        && record.listed(path.clone()).last_used <= seen.last_used
        && record.fits(folder, path)?;
    if !may_go && !is_absent(folder, path)? {
        return Ok(false);
    }
    forget(&lock, folder, &records, path, may_go)?;
    Ok(true)
}

/// Records a file as ours if it has these bytes.
pub(super) fn adopt(
    folder: &Directory,
    path: &LoraPath,
    sha256: Sha256Digest,
    gone: &CancellationToken,
) -> io::Result<bool> {
    let Some(user) = found(folder.below(&path.folder()))? else {
        return Ok(false);
    };
    let Some(mark) = user.mark(path.file())? else {
        return Ok(false);
    };
    let record = match Records::open(folder)? {
        Some(records) => records.read(path)?,
        None => None,
    };
    if let Some(record) = record.filter(|record| record.mark == mark) {
        return Ok(record.sha256 == sha256);
    }
    Ok(digest_of(folder, path, mark, gone)? == Some(sha256)
        && record_anew(folder, path, sha256, mark)?)
}

/// Removes a file of ours. One whose mark was changed is ours while it has the
/// bytes that we installed; otherwise only the record goes.
pub(super) fn remove(
    folder: &Directory,
    path: &LoraPath,
    gone: &CancellationToken,
) -> io::Result<()> {
    let Some(records) = Records::open(folder)? else {
        return Ok(());
    };
    let lock = records.lock()?;
    let Some(record) = records.read(path)? else {
        return Ok(());
    };
    if record.fits(folder, path)? || is_absent(folder, path)? {
        return forget(&lock, folder, &records, path, true);
    }
    drop(lock);
    let unchanged = rehashed(folder, path, &record, gone)?;
    let lock = records.lock()?;
    if records.read(path)? != Some(record) {
        // Somebody else has installed it or taken care of it meanwhile.
        return Ok(());
    }
    let is_ours = match unchanged {
        Some(mark) => Record { mark, ..record }.fits(folder, path)?,
        None => false,
    };
    forget(&lock, folder, &records, path, is_ours)
}

/// The new mark of a file that still has the recorded bytes.
fn rehashed(
    folder: &Directory,
    path: &LoraPath,
    record: &Record,
    gone: &CancellationToken,
) -> io::Result<Option<super::directory::FileMark>> {
    let Ok(Some(user)) = found(folder.below(&path.folder())) else {
        return Ok(None);
    };
    let mark = user
        .mark(path.file())?
        .filter(|mark| mark.size_bytes == record.mark.size_bytes);
    match mark {
        Some(mark) => {
            let sha256 = digest_of(folder, path, mark, gone)?;
            Ok((sha256 == Some(record.sha256)).then_some(mark))
        }
        None => Ok(None),
    }
}

fn is_absent(folder: &Directory, path: &LoraPath) -> io::Result<bool> {
    Ok(match found(folder.below(&path.folder()))? {
        Some(user) => user.stat(path.file())?.is_none(),
        None => true,
    })
}

/// Removes a record, and its file if that is ours.
fn forget(
    lock: &Lock,
    folder: &Directory,
    records: &Records,
    path: &LoraPath,
    with_file: bool,
) -> io::Result<()> {
    if let Ok(Some(user)) = found(folder.below(&path.folder())) {
        if with_file {
            user.remove_file(path.file())?;
            user.sync()?;
        }
        folder.remove_if_empty(&path.folder())?;
    }
    records.remove(lock, path)
}

/// Removes what installs that broke off left behind, and what is recorded of
/// files that are gone.
pub(super) fn sweep(folder: &Directory) -> io::Result<()> {
    let records = Records::open_or_make(folder)?;
    let lock = records.lock()?;
    live_parts(&lock, folder)?;
    for (path, _) in records.all()? {
        if is_absent(folder, &path).unwrap_or(false) {
            records.remove(&lock, &path)?;
        }
    }
    records.sweep(&lock)?;
    for (name, _) in user_folders(folder)? {
        folder.remove_if_empty(&name)?;
    }
    Ok(())
}
