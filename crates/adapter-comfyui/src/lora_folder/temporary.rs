use std::fs::File;
use std::hash::{BuildHasher, RandomState};
use std::io;

use super::directory::Directory;

/// What ComfyUI does not list (`reference/comfyui/PROTOCOL.md` section 9).
const EXTENSION: &str = ".part";
const DIGITS: usize = 8;

/// A file being written under a name of its own, gone when dropped.
#[derive(Debug)]
pub(super) struct Temporary {
    directory: Directory,
    name: String,
    kept: bool,
}

impl Temporary {
    /// Makes `{name}.{8 digits}.part`, which nobody else writes.
    pub(super) fn create(directory: Directory, name: &str) -> io::Result<(File, Self)> {
        loop {
            // Its keys are random, which is all that is wanted here.
            let number = RandomState::new().hash_one(name) & 0xffff_ffff;
            let name = format!("{name}.{number:08x}{EXTENSION}");
            match directory.create(&name) {
                Ok(file) => {
                    return Ok((
                        file,
                        Self {
                            directory,
                            name,
                            kept: false,
                        },
                    ));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// Gives the file its final name at one stroke, durably.
    pub(super) fn keep_as(mut self, name: &str) -> io::Result<()> {
        self.directory.rename(&self.name, name)?;
        self.kept = true;
        self.directory.sync()
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.kept {
            // Whatever stays behind is swept later.
            drop(self.directory.remove_file(&self.name));
        }
    }
}

/// Whether a name is one that [`Temporary::create`] makes.
pub(super) fn is_temporary(name: &str) -> bool {
    name.strip_suffix(EXTENSION)
        .and_then(|name| name.rsplit_once('.'))
        .is_some_and(|(_, digits)| {
            digits.len() == DIGITS
                && digits
                    .bytes()
                    .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_own_temporary_names_are_recognised() {
        assert!(is_temporary("style.safetensors.0123abcd.part"));
        for name in [
            "style.safetensors.part",
            "a.0123abc.part",
            "a.0123ABCD.part",
            "a.0123abcd",
            "0123abcd.part",
        ] {
            assert!(!is_temporary(name), "{name}");
        }
    }
}
