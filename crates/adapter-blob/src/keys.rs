use std::iter;

use atelier_domain::ports::BlobKey;
use object_store::path::Path;

/// What a segment may have on a file system where names end at 255 bytes and a
/// file being written has `#` and a number behind its name.
const MAX_FILE_NAME_BYTES: usize = 200;

/// What stands behind the name of a folder that holds the rest of a name too
/// long. No escape makes it.
const GOES_ON: &str = "%~";

/// How much of a name too long goes into each of its parts: the mark has room
/// as well, and so has a character that is not cut in two.
const PART_BYTES: usize = MAX_FILE_NAME_BYTES - 10;

/// How a key becomes a name in the store. Decided here alone, so that what was
/// written is found again.
#[derive(Clone, Debug)]
pub(crate) enum KeyMapping {
    /// As it is, below a prefix. `Path::parse` keeps every character of a key,
    /// where `Path::from` would encode some and so change the object's name.
    Verbatim { prefix: Option<BlobKey> },
    /// A file. `LocalFileSystem` takes no name that ends in `#` and digits,
    /// and no file system takes every segment that a key may have.
    File,
}

impl KeyMapping {
    pub(crate) fn path(&self, key: &BlobKey) -> Result<Path, object_store::Error> {
        Ok(Path::parse(self.name(key.as_str()))?)
    }

    /// The name of a key, or of the beginning of one where names are verbatim.
    pub(crate) fn name(&self, key: &str) -> String {
        match self {
            Self::Verbatim { prefix: None } => key.to_owned(),
            Self::Verbatim {
                prefix: Some(prefix),
            } => format!("{prefix}/{key}"),
            Self::File => {
                let segments: Vec<_> = key.split('/').map(file_name).collect();
                segments.join("/")
            }
        }
    }

    /// The key whose name this is; `None` for the name of no key of ours.
    pub(crate) fn key(&self, name: &str) -> Option<BlobKey> {
        let key = match self {
            Self::Verbatim { prefix: None } => name.to_owned(),
            Self::Verbatim {
                prefix: Some(prefix),
            } => name
                .strip_prefix(prefix.as_str())?
                .strip_prefix('/')?
                .to_owned(),
            Self::File => unescaped(&name.replace("%~/", "")),
        };
        let key = BlobKey::parse(key).ok()?;
        (self.name(key.as_str()) == name).then_some(key)
    }
}

/// What all keys of the files below a folder begin with; empty where only part
/// of a segment is known.
pub(crate) fn key_prefix(folder: &str) -> String {
    if folder.is_empty() || folder.contains(GOES_ON) {
        String::new()
    } else {
        format!("{}/", unescaped(folder))
    }
}

/// Another name for every segment: `%` and `#` are escaped, and a name too
/// long is cut into folders, which only the last part is not.
fn file_name(segment: &str) -> String {
    let escaped = segment.replace('%', "%25").replace('#', "%23");
    if escaped.len() <= MAX_FILE_NAME_BYTES {
        return escaped;
    }
    // Of about the same length, since none may be "." or "..".
    let parts = escaped.len().div_ceil(PART_BYTES);
    let ends = (1..=parts).map(|part| escaped.floor_char_boundary(part * escaped.len() / parts));
    let starts = iter::once(0).chain(ends.clone());
    let parts: Vec<_> = starts
        .zip(ends)
        .filter_map(|(start, end)| escaped.get(start..end))
        .collect();
    parts.join("%~/")
}

fn unescaped(name: &str) -> String {
    name.replace("%23", "#").replace("%25", "%")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn path(mapping: &KeyMapping, key: &str) -> String {
        mapping
            .path(&BlobKey::parse(key).unwrap())
            .unwrap()
            .to_string()
    }

    #[test]
    fn a_bucket_keeps_the_key_as_it_is() {
        let plain = KeyMapping::Verbatim { prefix: None };
        let below = KeyMapping::Verbatim {
            prefix: BlobKey::parse("site/a").ok(),
        };

        assert_eq!(
            path(&plain, "user-1/loras/ä #1 100%~.safetensors"),
            "user-1/loras/ä #1 100%~.safetensors"
        );
        assert_eq!(path(&below, "user-1/x"), "site/a/user-1/x");
    }

    #[test]
    fn every_segment_gets_a_file_name_of_its_own() {
        let long = "ö".repeat(127);
        let keys = [
            "a#1",
            "a%231",
            "a%1",
            "a%~",
            "a#",
            "a",
            "b/c%/d",
            &format!("{long}a"),
            &format!("{long}b"),
            &format!("x/{long}/y"),
            &"%".repeat(255),
            &".".repeat(255),
        ];

        let names: BTreeSet<_> = keys
            .iter()
            .map(|key| path(&KeyMapping::File, key))
            .collect();

        assert_eq!(names.len(), keys.len(), "{names:?}");
        for name in &names {
            assert!(!name.contains('#'), "{name}");
            let is_short = |part: &str| part.len() <= MAX_FILE_NAME_BYTES;
            assert!(name.split('/').all(is_short), "{name}");
        }
        for key in keys {
            let name = path(&KeyMapping::File, key);
            assert_eq!(KeyMapping::File.key(&name).unwrap().as_str(), key);
        }
    }

    #[test]
    fn names_of_no_key_are_not_taken_for_one() {
        let below = KeyMapping::Verbatim {
            prefix: BlobKey::parse("site/a").ok(),
        };
        for name in ["site/ab", "site/a", "site/b/x", "x", "site/a/"] {
            assert_eq!(below.key(name), None, "{name}");
        }
        for name in ["a#1", "a%1", "a%~/b", "a%~", "", "a//b", "%2525%"] {
            assert_eq!(KeyMapping::File.key(name), None, "{name}");
        }
        let nested = key_prefix("user-1/100%25");
        assert_eq!(nested, "user-1/100%/");
        assert_eq!(key_prefix("user-1/xxx%~"), "");
    }
}
