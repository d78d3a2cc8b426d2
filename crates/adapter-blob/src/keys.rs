use atelier_domain::digest::Sha256Digest;
use atelier_domain::ports::BlobKey;
use object_store::path::Path;
use sha2::{Digest, Sha256};

/// What a segment may have on a file system where names end at 255 bytes and a
/// file being written has `#` and a number behind its name.
const MAX_FILE_NAME_BYTES: usize = 200;

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
        let name = match self {
            Self::Verbatim { prefix: None } => key.as_str().to_owned(),
            Self::Verbatim {
                prefix: Some(prefix),
            } => format!("{prefix}/{key}"),
            Self::File => {
                let segments: Vec<_> = key.as_str().split('/').map(file_name).collect();
                segments.join("/")
            }
        };
        Ok(Path::parse(name)?)
    }
}

/// Another name for every segment: `%` and `#` are escaped, and a name too
/// long is cut and told apart by its digest behind `%~`, which no escape makes.
fn file_name(segment: &str) -> String {
    let escaped = segment.replace('%', "%25").replace('#', "%23");
    if escaped.len() <= MAX_FILE_NAME_BYTES {
        return escaped;
    }
    let digits = Sha256Digest::new(Sha256::digest(segment.as_bytes()).into()).to_string();
    let room = MAX_FILE_NAME_BYTES - digits.len() - 2;
    let end = (0..=room)
        .rev()
        .find(|end| escaped.is_char_boundary(*end))
        .unwrap_or(0);
    format!("{}%~{digits}", escaped.get(..end).unwrap_or_default())
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
            "a#",
            "a",
            &format!("{long}a"),
            &format!("{long}b"),
            &"%".repeat(255),
        ];

        let names: BTreeSet<_> = keys
            .iter()
            .map(|key| path(&KeyMapping::File, key))
            .collect();

        assert_eq!(names.len(), keys.len(), "{names:?}");
        assert!(
            names
                .iter()
                .all(|name| name.len() <= MAX_FILE_NAME_BYTES && !name.contains('#')),
            "{names:?}"
        );
    }
}
