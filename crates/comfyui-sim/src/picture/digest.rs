//! The fingerprints that stand for models, conditionings and latents.

use sha2::{Digest as _, Sha256};

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
