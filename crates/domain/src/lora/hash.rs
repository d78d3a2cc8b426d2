//! The hashes by which the world knows LoRA files.

use crate::digest::{Blake3Digest, Sha256Digest};

/// The digests of one LoRA file (`reference/platform/PROTOCOLS.md` section
/// 6.3), all made in the one pass in which its bytes came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoraHashes {
    /// SHA-256 of the whole file.
    pub sha256: Sha256Digest,
    /// BLAKE3 of the whole file; `None` for files that came before it was
    /// made.
    pub blake3: Option<Blake3Digest>,
    /// SHA-256 of the tensors alone, which stays when only the metadata
    /// change; `None` as above.
    pub tensors_sha256: Option<Sha256Digest>,
}

impl LoraHashes {
    /// `AutoV2`: the first 10 digits of the file's SHA-256, in capitals.
    pub fn auto_v2(&self) -> String {
        self.sha256.first_digits(10).to_uppercase()
    }

    /// `AutoV3`: the first 12 digits of the tensors' SHA-256, in capitals.
    pub fn auto_v3(&self) -> Option<String> {
        let tensors = self.tensors_sha256?;
        Some(tensors.first_digits(12).to_uppercase())
    }

    /// Whether somebody may know the file by this hash.
    pub fn answer_to(&self, hash: &LoraHash) -> bool {
        let wanted = hash.as_str();
        match wanted.len() {
            LoraHash::AUTO_V2_DIGITS => self.sha256.first_digits(wanted.len()) == wanted,
            LoraHash::AUTO_V3_DIGITS => self
                .tensors_sha256
                .is_some_and(|tensors| tensors.first_digits(wanted.len()) == wanted),
            _ => {
                self.sha256.to_string() == wanted
                    || self.blake3.is_some_and(|hash| hash.to_string() == wanted)
                    || self
                        .tensors_sha256
                        .is_some_and(|tensors| tensors.to_string() == wanted)
            }
        }
    }
}

/// A hash that somebody looks a LoRA up by: 10 digits are an `AutoV2`, 12 an
/// `AutoV3`, 64 a SHA-256 of the file or of its tensors, or a BLAKE3.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LoraHash(String);

/// The text is none of the hashes that LoRAs are known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a hash in hexadecimal digits: 10 of an AutoV2, 12 of an AutoV3, or 64 of a SHA-256 or BLAKE3"
)]
pub struct InvalidLoraHash;

impl LoraHash {
    /// Digits of an `AutoV2`.
    pub const AUTO_V2_DIGITS: usize = 10;
    /// Digits of an `AutoV3`.
    pub const AUTO_V3_DIGITS: usize = 12;
    const FULL_DIGITS: usize = 64;

    /// Reads a hash in either case, with or without the `0x` that some write
    /// before it.
    ///
    /// # Errors
    /// [`InvalidLoraHash`] for other lengths and letters.
    pub fn parse(text: &str) -> Result<Self, InvalidLoraHash> {
        let digits = text.strip_prefix("0x").unwrap_or(text);
        let is_hash = matches!(
            digits.len(),
            Self::AUTO_V2_DIGITS | Self::AUTO_V3_DIGITS | Self::FULL_DIGITS
        ) && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_hash {
            Ok(Self(digits.to_ascii_lowercase()))
        } else {
            Err(InvalidLoraHash)
        }
    }

    /// The digits, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hashes() -> LoraHashes {
        LoraHashes {
            sha256: Sha256Digest::new([0xab; 32]),
            blake3: Some(Blake3Digest::new([0xcd; 32])),
            tensors_sha256: Some(Sha256Digest::new([0xef; 32])),
        }
    }

    #[test]
    fn a_file_answers_to_each_of_its_hashes() {
        for text in [
            "ABABABABAB".to_owned(),
            "efefefefefef".to_owned(),
            "ab".repeat(32),
            "CD".repeat(32),
            format!("0x{}", "ef".repeat(32)),
        ] {
            let hash = LoraHash::parse(&text).unwrap();
            assert!(hashes().answer_to(&hash), "{text}");
        }
        for text in ["efefefefef", "abababababab", &"00".repeat(32)] {
            let hash = LoraHash::parse(text).unwrap();
            assert!(!hashes().answer_to(&hash), "{text}");
        }
    }

    #[test]
    fn what_is_no_hash_is_refused() {
        for text in ["", "abababab", "0x", "ghijklmnop", "ababababab "] {
            assert_eq!(LoraHash::parse(text), Err(InvalidLoraHash), "{text}");
        }
    }

    #[test]
    fn the_short_forms_are_in_capitals() {
        assert_eq!(hashes().auto_v2(), "ABABABABAB");
        assert_eq!(hashes().auto_v3().as_deref(), Some("EFEFEFEFEFEF"));
    }
}
