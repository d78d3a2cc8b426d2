use std::fs::File;
use std::io::{self, Read};
use std::thread;
use std::time::Duration;

use atelier_domain::digest::Sha256Digest;
use atelier_domain::lora::LoraPath;
use atelier_domain::ports::LoraFile;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;

use super::directory::{Directory, FileMark};
use super::record::{Lock, Records, found, now_ns};

/// How much is read at a time.
const PIECE_BYTES: usize = 1024 * 1024;

/// The longest time that a system takes for the same, and some more.
const TICK: Duration = Duration::from_millis(15);

/// What is known of a file without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It is recorded, and as it was recorded.
    Verified,
    /// Nothing that could be it is there.
    Absent,
    /// Something of its size is there: its bytes decide.
    Unknown(FileMark),
}

/// Looks at a file, and notes a use of one that is verified.
pub(super) fn look(
    lock: &Lock,
    folder: &Directory,
    records: &Records,
    file: &LoraFile,
) -> io::Result<Look> {
    let Some(user) = found(folder.below(&file.path.folder()))? else {
        return Ok(Look::Absent);
    };
    let Some(mark) = user.mark(file.path.file())? else {
        return Ok(Look::Absent);
    };
    match records.read(&file.path)? {
        Some(record) if record.mark == mark && record.is_of(file) => {
            records.note_use(lock, &file.path, &record)?;
            Ok(Look::Verified)
        }
        // Another file of ours, which is what it was.
        Some(record) if record.mark == mark => Ok(Look::Absent),
        _ if mark.size_bytes == file.size_bytes => Ok(Look::Unknown(mark)),
        _ => Ok(Look::Absent),
    }
}

/// Whether the very file is there; records it anew if only its bytes say so.
pub(super) fn is_verified(
    folder: &Directory,
    file: &LoraFile,
    gone: &CancellationToken,
) -> io::Result<bool> {
    let records = Records::open_or_make(folder)?;
    let lock = records.lock()?;
    let looked = look(&lock, folder, &records, file)?;
    drop(lock);
    match looked {
        Look::Verified => Ok(true),
        Look::Absent => Ok(false),
        Look::Unknown(mark) => Ok(
            digest_of(folder, &file.path, mark, gone)? == Some(file.sha256)
                && record_anew(folder, &file.path, file.sha256, mark)?,
        ),
    }
}

/// Records a file whose bytes were read, if it still is the one.
pub(super) fn record_anew(
    folder: &Directory,
    path: &LoraPath,
    sha256: Sha256Digest,
    mark: FileMark,
) -> io::Result<bool> {
    let records = Records::open_or_make(folder)?;
    let lock = records.lock()?;
    let user = found(folder.below(&path.folder()))?;
    if user
        .map(|user| user.mark(path.file()))
        .transpose()?
        .flatten()
        != Some(mark)
    {
        return Ok(false);
    }
    records.write(&lock, path, sha256, mark)?;
    drop(lock);
    outlast(mark);
    Ok(true)
}

/// Waits until a change of the file would get another time than the recorded
/// one: systems tell times by ticks. Without the lock.
pub(super) fn outlast(mark: FileMark) {
    let age =
        u64::try_from(now_ns() - mark.changed_ns).map_or(Duration::ZERO, Duration::from_nanos);
    if let Some(rest) = TICK.checked_sub(age) {
        thread::sleep(rest);
    }
}

/// Reads a file that carries this mark; `None` if it has another one, before
/// or after. Nobody needs to hold a lock meanwhile.
pub(super) fn digest_of(
    folder: &Directory,
    path: &LoraPath,
    mark: FileMark,
    gone: &CancellationToken,
) -> io::Result<Option<Sha256Digest>> {
    let Some(user) = found(folder.below(&path.folder()))? else {
        return Ok(None);
    };
    let Some(mut file) = found(user.open_to_read(path.file()))? else {
        return Ok(None);
    };
    if FileMark::of_open(&file).ok() != Some(mark) {
        return Ok(None);
    }
    let sha256 = hash(&mut file, gone)?;
    Ok((FileMark::of_open(&file)? == mark).then_some(sha256))
}

fn hash(file: &mut File, gone: &CancellationToken) -> io::Result<Sha256Digest> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        if gone.is_cancelled() {
            return Err(io::Error::other("nobody waits for the digest any more"));
        }
        match file.read(&mut piece)? {
            0 => return Ok(Sha256Digest::new(hasher.finalize().into())),
            length => hasher.update(piece.get(..length).unwrap_or_default()),
        }
    }
}
