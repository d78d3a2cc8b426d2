//! The versions of a LoRA: the bytes that were stored under one filename, one
//! after the other.

use std::fmt;

/// The how-manyth bytes under a filename, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoraVersion(u32);

impl LoraVersion {
    /// What a filename's first bytes are.
    pub const FIRST: Self = Self(1);

    /// Takes a number; `None` for 0 and for what no database column holds.
    pub const fn new(number: u32) -> Option<Self> {
        if 1 <= number && number <= i32::MAX as u32 {
            Some(Self(number))
        } else {
            None
        }
    }

    /// The number.
    pub const fn number(self) -> u32 {
        self.0
    }

    /// Reads digits as they are written here: no sign, no leading zero.
    pub fn parse(digits: &str) -> Option<Self> {
        let is_plain =
            !digits.starts_with('0') && digits.bytes().all(|digit| digit.is_ascii_digit());
        is_plain
            .then(|| digits.parse().ok())
            .flatten()
            .and_then(Self::new)
    }
}

impl fmt::Display for LoraVersion {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, formatter)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_has_one_spelling() {
        assert_eq!(LoraVersion::parse("1"), Some(LoraVersion::FIRST));
        for digits in [
            "",
            "0",
            "01",
            "+1",
            "-1",
            "1 ",
            "2147483648",
            "99999999999",
            "x",
        ] {
            assert_eq!(LoraVersion::parse(digits), None, "{digits:?}");
        }
    }
}
