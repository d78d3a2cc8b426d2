use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use md5::Md5;
use sha2::{Digest, Sha256};

/// How many bytes are made at once.
const CHUNK_BYTES: u64 = 64 * 1024;

type Fill = dyn Fn(u64, &mut [u8]) + Send + Sync;

/// What a file holds: bytes, or a rule that makes them where they are read.
#[derive(Clone)]
pub struct Content {
    size: u64,
    fill: Arc<Fill>,
}

impl fmt::Debug for Content {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Content")
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

impl Content {
    /// These bytes.
    pub fn bytes(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::generated(bytes.len() as u64, move |offset, buffer| {
            let begin = usize::try_from(offset).expect("an offset within the bytes");
            let end = begin + buffer.len();
            buffer.copy_from_slice(bytes.get(begin..end).expect("an offset within the bytes"));
        })
    }

    /// `size` bytes that a rule makes: it is given an offset and fills the
    /// buffer with what lies from there on. The same offsets must always give
    /// the same bytes.
    pub fn generated(size: u64, fill: impl Fn(u64, &mut [u8]) + Send + Sync + 'static) -> Self {
        Self {
            size,
            fill: Arc::new(fill),
        }
    }

    /// `size` bytes that begin with `head`, and go on with a pattern in which
    /// no two neighbouring stretches are alike.
    pub fn patterned(head: impl Into<Bytes>, size: u64) -> Self {
        let head = head.into();
        Self::generated(size, move |offset, buffer| {
            for (at, byte) in (offset..).zip(buffer) {
                let of_head = usize::try_from(at).ok().and_then(|at| head.get(at));
                *byte = of_head.copied().unwrap_or_else(|| pattern(at));
            }
        })
    }

    /// How many bytes there are.
    pub fn size_bytes(&self) -> u64 {
        self.size
    }

    /// The bytes of a stretch, at most 64 KiB and at most to the end.
    pub fn read(&self, offset: u64, longest: u64) -> Bytes {
        let length = self
            .size
            .saturating_sub(offset)
            .min(longest)
            .min(CHUNK_BYTES);
        let mut buffer = vec![0; usize::try_from(length).expect("64 KiB at most")];
        (self.fill)(offset, &mut buffer);
        buffer.into()
    }

    /// The MD5 digest of all bytes, in hexadecimal; makes every one of them.
    pub fn md5(&self) -> String {
        self.digest::<Md5>()
    }

    /// The SHA-256 digest of all bytes, in hexadecimal; makes every one of them.
    pub fn sha256(&self) -> String {
        self.digest::<Sha256>()
    }

    fn digest<D: Digest>(&self) -> String {
        let mut digest = D::new();
        let mut offset = 0;
        while offset < self.size {
            let chunk = self.read(offset, CHUNK_BYTES);
            offset += chunk.len() as u64;
            digest.update(&chunk);
        }
        hex::encode(digest.finalize())
    }
}

/// Depends on the whole offset, so that a stretch at the wrong place shows.
fn pattern(at: u64) -> u8 {
    let [first, second, third, fourth, fifth, ..] = at.to_le_bytes();
    first ^ second.wrapping_mul(31) ^ third.wrapping_mul(17) ^ fourth.wrapping_mul(7) ^ fifth
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_is_the_same_from_wherever_it_is_read() {
        let content = Content::patterned("head", 5 << 30);

        assert_eq!(&content.read(0, 4)[..], b"head");
        let late = 4 << 30;
        assert_eq!(
            content.read(late, 64)[10..],
            content.read(late + 10, 54)[..]
        );
        assert_ne!(content.read(late, 64), content.read(late + 256, 64));
        assert_eq!(content.read((5 << 30) - 1, 64).len(), 1);
    }

    #[test]
    fn digests_are_those_of_the_bytes() {
        let content = Content::bytes("a");

        assert_eq!(content.md5(), "0cc175b9c0f1b6a831c399e269772661");
        assert!(content.sha256().starts_with("ca978112ca1b"));
    }
}
