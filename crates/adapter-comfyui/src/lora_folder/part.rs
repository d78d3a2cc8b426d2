use std::fs::File;
use std::io;
use std::sync::Arc;

use atelier_domain::lora::LoraPath;
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

use super::directory::{Directory, FileMark, try_lock};
use super::record::{Lock, found};

/// What ComfyUI does not list (`reference/comfyui/PROTOCOL.md` section 9), and
/// what nobody else would name so.
const EXTENSION: &str = ".atelier.part";

/// Blocks of a file are counted in these, whatever the disk's are.
const BLOCK_BYTES: u64 = 512;

/// A file on its way into the folder: `{file}.atelier.part`, as long as the
/// whole file from the beginning, and locked while somebody writes it. It is
/// gone when dropped, and so is the lock when its process dies: what is not
/// locked is a leftover.
#[derive(Debug)]
pub(super) struct Part {
    directory: Directory,
    name: String,
    /// Keeps the lock, also where whoever writes has given up.
    file: Arc<File>,
    kept: bool,
}

/// A file that somebody installs just now.
#[derive(Clone, Copy, Debug)]
pub(super) struct LivePart {
    /// How many bytes it will have.
    pub(super) declared_bytes: u64,
    /// How many of them the disk has not set apart yet.
    pub(super) unallocated_bytes: u64,
}

impl Part {
    /// Makes the file, with all its room. Under the lock, since between its
    /// making and its own lock it looks like a leftover.
    pub(super) fn create(
        _lock: &Lock,
        user: Directory,
        file: &str,
        size_bytes: u64,
    ) -> io::Result<Self> {
        let name = format!("{file}{EXTENSION}");
        let part = Self {
            file: Arc::new(user.create(&name)?),
            directory: user,
            name,
            kept: false,
        };
        if !try_lock(&part.file)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        if size_bytes > 0 {
            match fallocate(&part.file, FallocateFlags::empty(), 0, size_bytes) {
                Ok(()) => {}
                // Not every file system can.
                Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => {
                    part.file.set_len(size_bytes)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(part)
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Gives the file its final name at one stroke, durably.
    pub(super) fn keep_as(mut self, name: &str) -> io::Result<()> {
        self.directory.rename(&self.name, name)?;
        self.kept = true;
        self.directory.sync()
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        if !self.kept {
            // Whatever stays behind is swept later.
            drop(self.directory.remove_file(&self.name));
        }
    }
}

/// Whether somebody installs a file just now. A leftover is removed.
pub(super) fn is_busy(lock: &Lock, user: &Directory, file: &str) -> io::Result<bool> {
    Ok(live_part(lock, user, &format!("{file}{EXTENSION}"))?.is_some())
}

/// What is being installed, by whichever process. Leftovers are removed.
pub(super) fn live_parts(lock: &Lock, root: &Directory) -> io::Result<Vec<LivePart>> {
    let mut live = Vec::new();
    for (_, user) in user_folders(root)? {
        for name in user.names()? {
            if name.ends_with(EXTENSION) {
                live.extend(live_part(lock, &user, &name)?);
            }
        }
    }
    Ok(live)
}

fn live_part(_lock: &Lock, user: &Directory, name: &str) -> io::Result<Option<LivePart>> {
    // A link or a pipe is none of ours.
    if user.mark(name)?.is_none() {
        return Ok(None);
    }
    let Some(file) = user.open_to_lock(name)? else {
        return Ok(None);
    };
    if try_lock(&file)? {
        user.remove_file(name)?;
        return Ok(None);
    }
    let declared_bytes = FileMark::of_open(&file)?.size_bytes;
    let blocks = u64::try_from(rustix::fs::fstat(&file)?.st_blocks).unwrap_or(0);
    Ok(Some(LivePart {
        declared_bytes,
        unallocated_bytes: declared_bytes.saturating_sub(blocks.saturating_mul(BLOCK_BYTES)),
    }))
}

/// The folders that are users', with their names.
pub(super) fn user_folders(root: &Directory) -> io::Result<Vec<(String, Directory)>> {
    let mut folders = Vec::new();
    for name in root.names()? {
        let is_ours = LoraPath::parse(&format!("{name}/x.safetensors")).is_ok();
        // What cannot be opened is a link or a file, so none of ours.
        if is_ours && let Ok(Some(user)) = found(root.below(&name)) {
            folders.push((name, user));
        }
    }
    Ok(folders)
}
