//! Names of LoRA files.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Bytes that a name may have after normalisation.
const MAX_BYTES: usize = 200;

/// The one kind of file that is taken, in any case.
pub(super) const EXTENSION: &str = ".safetensors";

/// Why a name cannot be the name of a LoRA file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidLoraFilename {
    /// Empty, or too long.
    #[error("must have 1 to {MAX_BYTES} bytes")]
    Length,
    /// Another kind of file, or none.
    #[error("must end in {EXTENSION}")]
    Extension,
    /// More than one path segment.
    #[error("must be a plain file name without \"/\" or \"\\\"")]
    Separator,
    /// A character that does not print.
    #[error("must not hold control characters")]
    Control,
    /// A hidden file, or nothing before the extension.
    #[error("must not begin with a dot")]
    LeadingDot,
    /// Blanks that would be lost on some systems and look alike on all.
    #[error("must not begin or end with a blank")]
    Blank,
    /// `C:name`, which Windows takes for a path.
    #[error("must not begin with a drive letter")]
    Drive,
}

/// The name of a LoRA file as its owner knows it: one path segment, `….safetensors`, 1 to 200 bytes, NFC-normalised.
///
/// Joined to a folder it always names a file in that folder.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct LoraFilename(String);

impl LoraFilename {
    /// Normalises and checks a name.
    ///
    /// # Errors
    /// The first rule that the name breaks.
    pub fn parse(name: &str) -> Result<Self, InvalidLoraFilename> {
        // NFC shortens a name threefold at most, so what is far too long need not be normalised first.
        if name.len() > 4 * MAX_BYTES {
            return Err(InvalidLoraFilename::Length);
        }
        let name = if is_nfc(name) {
            Cow::Borrowed(name)
        } else {
            Cow::Owned(name.nfc().collect())
        };
        check(&name, MAX_BYTES)?;
        Ok(Self(name.into_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name without its extension.
    pub fn stem(&self) -> &str {
        self.0
            .len()
            .checked_sub(EXTENSION.len())
            .and_then(|end| self.0.get(..end))
            .unwrap_or_default()
    }
}

/// The rules for a file in a user's folder; a versioned name may be longer than the name it comes from.
pub(super) fn check(name: &str, max_bytes: usize) -> Result<(), InvalidLoraFilename> {
    if name.is_empty() || name.len() > max_bytes {
        return Err(InvalidLoraFilename::Length);
    }
    if name.contains(['/', '\\']) {
        return Err(InvalidLoraFilename::Separator);
    }
    if name.chars().any(char::is_control) {
        return Err(InvalidLoraFilename::Control);
    }
    if name.starts_with('.') {
        return Err(InvalidLoraFilename::LeadingDot);
    }
    if name.trim() != name || name.trim_start_matches('\u{feff}') != name {
        return Err(InvalidLoraFilename::Blank);
    }
    if matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
        return Err(InvalidLoraFilename::Drive);
    }
    let extension = name
        .len()
        .checked_sub(EXTENSION.len())
        .and_then(|at| name.get(at..));
    if !extension.is_some_and(|extension| extension.eq_ignore_ascii_case(EXTENSION)) {
        return Err(InvalidLoraFilename::Extension);
    }
    Ok(())
}

impl LoraFilename {
    /// Makes a file name out of what a file is called somewhere else, such as a
    /// title without an extension: separators become `_`, what does
    /// not print goes, what is too long is cut, `.safetensors` is added.
    ///
    /// # Errors
    /// [`InvalidLoraFilename::Extension`] for a name that says it is another kind
    /// of file, [`InvalidLoraFilename::Length`] where nothing is left.
    pub fn suggested_by(name: &str) -> Result<Self, InvalidLoraFilename> {
        let name: String = name
            .chars()
            .take(4 * MAX_BYTES)
            .filter(|character| !character.is_control())
            .map(|character| match character {
                '/' | '\\' | ':' => '_',
                character => character,
            })
            .nfc()
            .collect();
        let name = name.trim_matches(|character: char| {
            character.is_whitespace() || character == '\u{feff}' || character == '.'
        });
        let lower = name.to_ascii_lowercase();
        if FOREIGN_EXTENSIONS.iter().any(|end| lower.ends_with(end)) {
            return Err(InvalidLoraFilename::Extension);
        }
        let mut stem = match lower.strip_suffix(EXTENSION) {
            Some(stem) => name.get(..stem.len()).unwrap_or_default(),
            None => name,
        };
        while stem.len() > MAX_BYTES - EXTENSION.len() {
            let Some((last, _)) = stem.char_indices().next_back() else {
                break;
            };
            stem = stem.get(..last).unwrap_or_default();
        }
        let stem = stem.trim_end();
        if stem.is_empty() {
            return Err(InvalidLoraFilename::Length);
        }
        Self::parse(&format!("{stem}{EXTENSION}"))
    }
}

/// Ends of names that say what a file is, and that it is no safetensors file.
const FOREIGN_EXTENSIONS: [&str; 14] = [
    ".7z", ".bin", ".ckpt", ".gguf", ".html", ".jpg", ".json", ".onnx", ".pkl", ".png", ".pt",
    ".pth", ".rar", ".zip",
];

impl fmt::Display for LoraFilename {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl AsRef<str> for LoraFilename {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for LoraFilename {
    type Err = InvalidLoraFilename;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::parse(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ordinary_name_is_kept() {
        let filename = LoraFilename::parse("My Style v1.2.SafeTensors").unwrap();

        assert_eq!(filename.as_str(), "My Style v1.2.SafeTensors");
        assert_eq!(filename.stem(), "My Style v1.2");
    }

    #[test]
    fn equal_looking_names_are_one_name() {
        let composed = LoraFilename::parse("caf\u{e9}.safetensors").unwrap();
        let decomposed = LoraFilename::parse("cafe\u{301}.safetensors").unwrap();

        assert_eq!(composed, decomposed);
    }

    #[test]
    fn the_length_is_counted_in_bytes_after_normalising() {
        let longest = format!("{}.safetensors", "x".repeat(188));
        assert!(LoraFilename::parse(&longest).is_ok());
        assert_eq!(
            LoraFilename::parse(&format!("x{longest}")),
            Err(InvalidLoraFilename::Length)
        );
        // 94 times "e" and an accent: 282 bytes as sent, 188 as kept.
        assert!(LoraFilename::parse(&format!("{}.safetensors", "e\u{301}".repeat(94))).is_ok());
    }

    #[test]
    fn what_a_file_is_called_elsewhere_becomes_a_name() {
        for (name, expected) in [
            ("My Style", "My Style.safetensors"),
            ("My Style.SafeTensors", "My Style.safetensors"),
            ("v1.2 / final", "v1.2 _ final.safetensors"),
            ("../../etc/x.safetensors", "_.._etc_x.safetensors"),
            (" .hidden\n", "hidden.safetensors"),
            ("C:\\a.safetensors", "C__a.safetensors"),
        ] {
            let made = LoraFilename::suggested_by(name).unwrap();
            assert_eq!(made.as_str(), expected, "{name:?}");
        }
        let long = LoraFilename::suggested_by(&"\u{e9}".repeat(500)).unwrap();
        assert_eq!(long.as_str().len(), 200);
        for (name, fault) in [
            ("style.ckpt", InvalidLoraFilename::Extension),
            ("page.HTML", InvalidLoraFilename::Extension),
            ("", InvalidLoraFilename::Length),
            ("...", InvalidLoraFilename::Length),
        ] {
            assert_eq!(LoraFilename::suggested_by(name), Err(fault), "{name:?}");
        }
    }

    #[test]
    fn names_that_break_a_rule_are_refused() {
        for (name, reason) in [
            ("", InvalidLoraFilename::Length),
            ("style.ckpt", InvalidLoraFilename::Extension),
            ("style", InvalidLoraFilename::Extension),
            ("style.safetensors.part", InvalidLoraFilename::Extension),
            ("a/b.safetensors", InvalidLoraFilename::Separator),
            ("a\\b.safetensors", InvalidLoraFilename::Separator),
            ("../b.safetensors", InvalidLoraFilename::Separator),
            ("a\0.safetensors", InvalidLoraFilename::Control),
            ("a\u{85}.safetensors", InvalidLoraFilename::Control),
            (".safetensors", InvalidLoraFilename::LeadingDot),
            ("..safetensors", InvalidLoraFilename::LeadingDot),
            (" a.safetensors", InvalidLoraFilename::Blank),
            ("a.safetensors ", InvalidLoraFilename::Blank),
            ("C:a.safetensors", InvalidLoraFilename::Drive),
        ] {
            assert_eq!(LoraFilename::parse(name), Err(reason), "{name:?}");
        }
    }
}
