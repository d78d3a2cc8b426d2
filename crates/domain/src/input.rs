//! Pictures that people upload for their graphs.

use std::fmt;

use chrono::{DateTime, Utc};

use crate::digest::Sha256Digest;
use crate::ids::{InputId, UserId};
use crate::page::Cursor;
use crate::ports::BlobKey;

/// Kinds of pictures that are taken, told by their content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum InputFormat {
    /// PNG.
    Png,
    /// JPEG.
    Jpeg,
    /// WebP.
    Webp,
    /// GIF.
    Gif,
}

impl InputFormat {
    /// Every format.
    pub const ALL: [Self; 4] = [Self::Png, Self::Jpeg, Self::Webp, Self::Gif];

    /// The media type, such as `image/png`.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Png => "image/png",
            Self::Jpeg => "image/jpeg",
            Self::Webp => "image/webp",
            Self::Gif => "image/gif",
        }
    }

    /// The extension of files on a backend, without a dot.
    pub const fn extension(self) -> &'static str {
        match self {
            Self::Png => "png",
            Self::Jpeg => "jpg",
            Self::Webp => "webp",
            Self::Gif => "gif",
        }
    }
}

/// A picture of somebody's. Its bytes never change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// Its id.
    pub id: InputId,
    /// Whose it is.
    pub user_id: UserId,
    /// What its owner calls it: one path segment, 1 to 200 bytes.
    pub filename: InputFilename,
    /// What kind of picture.
    pub format: InputFormat,
    /// Its size, in bytes.
    pub size_bytes: u64,
    /// The digest of its bytes.
    pub sha256: Sha256Digest,
    /// Its width, in pixels.
    pub width: u32,
    /// Its height, in pixels.
    pub height: u32,
    /// Where it stands in a backend's input folder.
    pub comfyui_path: InputPath,
    /// Where its bytes are in the blob store.
    pub blob_key: BlobKey,
    /// When it was uploaded.
    pub created_at: DateTime<Utc>,
}

impl Input {
    /// Where the picture stands in a list.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.as_uuid(),
        }
    }
}

/// Why a name cannot be the name of an input file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be a plain file name of 1 to {max} bytes: no \"/\" or \"\\\", no control characters, \
     no dot in front, no brackets at the end",
    max = InputFilename::MAX_BYTES
)]
pub struct InvalidInputFilename;

/// What its owner calls a picture: one path segment, 1 to 200 bytes.
///
/// It never ends in `]`, by which ComfyUI knows its annotations
/// (`reference/comfyui/PROTOCOL.md` section 9).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputFilename(String);

impl InputFilename {
    /// Bytes that a name may have.
    pub const MAX_BYTES: usize = 200;

    /// Checks a name.
    ///
    /// # Errors
    /// [`InvalidInputFilename`].
    pub fn parse(name: &str) -> Result<Self, InvalidInputFilename> {
        let fits = (1..=Self::MAX_BYTES).contains(&name.len())
            && !name.contains(['/', '\\'])
            && !name.contains(char::is_control)
            && !name.starts_with('.')
            && !name.ends_with(']')
            && name.trim() == name
            && !matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
        if !fits {
            return Err(InvalidInputFilename);
        }
        Ok(Self(name.to_owned()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InputFilename {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Where a picture stands in a backend's input folder:
/// `user-{uuid}/{first 32 digits of its SHA-256}.{extension}`.
///
/// Made from the content, so that a path never stands for other bytes: ComfyUI
/// and the runs that wait for it read what was meant.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct InputPath(String);

impl InputPath {
    /// The path of some content of `owner`'s.
    pub fn of(owner: UserId, content: &Sha256Digest, format: InputFormat) -> Self {
        let digits = content.first_digits(32);
        Self(format!("user-{owner}/{digits}.{}", format.extension()))
    }

    /// Takes a path that this type wrote earlier; `None` for anything else.
    pub fn parse(path: &str) -> Option<Self> {
        let (folder, file) = path.split_once('/')?;
        let owner: UserId = folder.strip_prefix("user-")?.parse().ok()?;
        let (stem, extension) = file.rsplit_once('.')?;
        let is_ours = folder == format!("user-{owner}")
            && stem.len() == 32
            && stem
                .bytes()
                .all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
            && InputFormat::ALL
                .iter()
                .any(|format| format.extension() == extension);
        is_ours.then(|| Self(path.to_owned()))
    }

    /// The path, with `/`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder, `user-{uuid}`.
    pub fn folder(&self) -> &str {
        self.0.split_once('/').map_or("", |(folder, _)| folder)
    }

    /// The file's name in the folder.
    pub fn file(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, file)| file)
    }
}

impl fmt::Display for InputPath {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// How a graph names a picture of its owner's.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum InputName {
    /// The newest of this name.
    Latest(InputFilename),
    /// The one at this path.
    At(InputPath),
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    #[test]
    fn a_path_reads_what_it_writes() {
        let owner = UserId::new(Uuid::from_u128(7));
        let path = InputPath::of(owner, &Sha256Digest::new([171; 32]), InputFormat::Jpeg);

        assert_eq!(InputPath::parse(path.as_str()), Some(path.clone()));
        assert_eq!(path.folder(), format!("user-{owner}"));
        assert_eq!(path.file(), format!("{}.jpg", "ab".repeat(16)));
    }

    #[test]
    fn other_paths_are_none_of_ours() {
        for path in [
            "a.png",
            "user-x/a.png",
            "user-00000000-0000-0000-0000-000000000007/../a.png",
        ] {
            assert_eq!(InputPath::parse(path), None, "{path}");
        }
    }

    #[test]
    fn names_that_reach_elsewhere_are_refused() {
        for name in [
            "",
            "a/b.png",
            "..",
            ".a.png",
            "a\\b.png",
            "a [output]",
            "c:a.png",
            " a.png",
            "a\n.png",
        ] {
            assert_eq!(
                InputFilename::parse(name),
                Err(InvalidInputFilename),
                "{name:?}"
            );
        }
        assert!(InputFilename::parse("Foto (2).PNG").is_ok());
    }
}
