//! The fingerprints that stand for models, conditionings and latents.

use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

/// How much of a file is in memory at once.
const BLOCK_BYTES: usize = 1 << 20;

/// SHA-256 of everything that went into a value.
pub(crate) type Digest = [u8; 32];

/// The digest of a list of parts; where one part ends and the next begins matters.
pub(crate) fn digest<'part>(parts: impl IntoIterator<Item = &'part [u8]>) -> Digest {
    let mut hasher = Sha256::new();
    for part in parts {
        hasher.update(u64::try_from(part.len()).unwrap_or(u64::MAX).to_le_bytes());
        hasher.update(part);
    }
    hasher.finalize().into()
}

/// The digest of everything that can be read: a model is never in memory as a whole.
pub(crate) fn digest_of(mut source: impl Read) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        match source.read(&mut block)? {
            0 => return Ok(hasher.finalize().into()),
            count => hasher.update(block.get(..count).unwrap_or_default()),
        }
    }
}
