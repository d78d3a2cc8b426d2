//! Digests of files.

use std::fmt;
use std::str::FromStr;

macro_rules! digest {
    ($(#[$documentation:meta])* $name:ident) => {
        $(#[$documentation])*
        ///
        /// Written as 64 lower-case hexadecimal digits; read in either case.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; 32]);

        impl $name {
            /// Wraps the 32 bytes that a hasher gave.
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// The 32 bytes.
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// The first `count` of the 64 digits.
            pub fn first_digits(&self, count: usize) -> String {
                let mut digits = self.to_string();
                digits.truncate(count);
                digits
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0
                    .iter()
                    .try_for_each(|byte| write!(formatter, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(formatter, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = InvalidDigest;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                parse(text).map(Self)
            }
        }
    };
}

digest! {
    /// The SHA-256 digest of some bytes; a file's is what names content here.
    Sha256Digest
}
digest! {
    /// The BLAKE3 digest of a file's bytes, by which some model libraries know
    /// it.
    Blake3Digest
}

impl Sha256Digest {
    /// The first 8 of the 64 digits: enough to tell the versions of one file name apart.
    pub fn short8(&self) -> String {
        self.first_digits(8)
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest is written as 64 hexadecimal digits")]
pub struct InvalidDigest;

fn parse(text: &str) -> Result<[u8; 32], InvalidDigest> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != 32 || !rest.is_empty() {
        return Err(InvalidDigest);
    }
    let mut bytes = [0_u8; 32];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Ok(bytes)
}

const fn nibble(digit: u8) -> Result<u8, InvalidDigest> {
    match digit {
        b'0'..=b'9' => Ok(digit - b'0'),
        b'a'..=b'f' => Ok(digit - b'a' + 10),
        b'A'..=b'F' => Ok(digit - b'A' + 10),
        _ => Err(InvalidDigest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY_FILE: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn a_digest_reads_what_it_writes() {
        let digest: Sha256Digest = EMPTY_FILE.parse().unwrap();

        assert_eq!(digest.to_string(), EMPTY_FILE);
        assert_eq!(EMPTY_FILE.to_uppercase().parse(), Ok(digest));
        assert_eq!(digest.short8(), "e3b0c442");
    }

    #[test]
    fn other_lengths_and_letters_are_refused() {
        for text in [
            "",
            "e3b0",
            &EMPTY_FILE.replace('e', "g"),
            &format!("{EMPTY_FILE}00"),
            &"é".repeat(32),
        ] {
            assert_eq!(text.parse::<Sha256Digest>(), Err(InvalidDigest), "{text}");
        }
    }
}
