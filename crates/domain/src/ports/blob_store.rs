use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use thiserror::Error;
use uuid::Uuid;

use crate::ids::{InputId, LoraId, UserId};
use crate::lora::LoraFilename;
use crate::ports::{ByteStream, Source};

/// The name of an object: segments joined by `/`, made by us and never by a
/// user alone. Each segment has 1..=255 bytes, is neither `.` nor `..`, and
/// holds no `/`, no backslash and no control character; the whole has at most
/// 1 000 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BlobKey(String);

/// A text that is no [`BlobKey`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("not the key of an object")]
pub struct InvalidBlobKey;

impl BlobKey {
    /// Takes a key.
    ///
    /// # Errors
    /// [`InvalidBlobKey`] if it breaks the rules above.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidBlobKey> {
        let text = text.into();
        let segment_is_fine = |segment: &str| {
            (1..=255).contains(&segment.len())
                && segment != "."
                && segment != ".."
                && !segment.contains('\\')
                && !segment.chars().any(char::is_control)
        };
        if text.len() <= 1_000 && text.split('/').all(segment_is_fine) {
            Ok(Self(text))
        } else {
            Err(InvalidBlobKey)
        }
    }

    /// The key that a LoRA gets if nothing has it.
    pub fn of_lora(owner: UserId, filename: &LoraFilename) -> Self {
        Self(format!("user-{owner}/loras/{filename}"))
    }

    /// The key of a LoRA that no other one can have.
    pub fn of_lora_alone(owner: UserId, lora: LoraId, filename: &LoraFilename) -> Self {
        Self(format!("user-{owner}/loras/{lora}/{filename}"))
    }

    /// The key of a piece of a LoRA that comes in pieces; `unique` tells it from
    /// others that start at the same byte.
    pub fn of_upload_piece(owner: UserId, lora: LoraId, starts_at: u64, unique: Uuid) -> Self {
        Self(format!(
            "user-{owner}/uploads/{lora}/{starts_at:020}-{unique}"
        ))
    }

    /// The key of an uploaded picture.
    pub fn of_input(owner: UserId, input: InputId) -> Self {
        Self(format!("user-{owner}/inputs/{input}"))
    }

    /// The key itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for BlobKey {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Why a store of objects could not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BlobError {
    /// There is no such object.
    #[error("there is no object {0}")]
    NotFound(BlobKey),
    /// The store cannot be reached, or is too busy, just now; try again.
    #[error("the object store cannot be reached")]
    Unavailable(#[source] Source),
    /// The store has no room left.
    #[error("the object store is full")]
    Full(#[source] Source),
    /// The store refuses our credentials, or has no such bucket.
    #[error("the object store refused access")]
    Refused(#[source] Source),
    /// Anything else.
    #[error("the object store failed")]
    Backend(#[source] Source),
}

/// Which bytes of an object, `start..end`, from 0, never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub start: u64,
    /// One past the last byte; at most the object's size.
    pub end: u64,
}

/// An object being read.
pub struct BlobReader {
    /// How many bytes the whole object has.
    pub size_bytes: u64,
    /// The bytes that were asked for.
    pub bytes: ByteStream<BlobError>,
}

impl fmt::Debug for BlobReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BlobReader")
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// What a store knows of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobStat {
    /// How many bytes it has.
    pub size_bytes: u64,
}

/// An object in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlobEntry {
    /// Its key.
    pub key: BlobKey,
    /// How many bytes it has.
    pub size_bytes: u64,
    /// When it was written, by the store's clock.
    pub modified_at: DateTime<Utc>,
}

/// Keeps objects. Both directions stream: no transfer holds more than 64 MiB.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// Begins to write an object, in place of one of the same key.
    ///
    /// The object MUST become visible only after [`BlobWriter::finish`], whole.
    async fn writer(&self, key: &BlobKey) -> Result<Box<dyn BlobWriter>, BlobError>;

    /// Begins to read an object, or a range of it.
    ///
    /// # Errors
    /// [`BlobError::NotFound`] if there is no such object. A range that
    /// reaches past the end is the caller's mistake and a
    /// [`BlobError::Backend`].
    async fn reader(
        &self,
        key: &BlobKey,
        range: Option<ByteRange>,
    ) -> Result<BlobReader, BlobError>;

    /// Looks at an object; `None` if it is not there.
    async fn stat(&self, key: &BlobKey) -> Result<Option<BlobStat>, BlobError>;

    /// Deletes an object. One that is not there is deleted already.
    async fn delete(&self, key: &BlobKey) -> Result<(), BlobError>;

    /// Lists objects whose keys begin with `prefix` and are greater than
    /// `after`, in the order of their keys' bytes, at most `limit`. What is no
    /// [`BlobKey`] is left out.
    async fn list(
        &self,
        prefix: &str,
        after: Option<BlobKey>,
        limit: u16,
    ) -> Result<Vec<BlobEntry>, BlobError>;

    /// An address at which anybody may read the object for a while; `None`
    /// where the store has none.
    async fn signed_url(
        &self,
        key: &BlobKey,
        valid_for: Duration,
    ) -> Result<Option<String>, BlobError>;

    /// Makes sure that the store can be reached and accepts our credentials.
    async fn check(&self) -> Result<(), BlobError>;
}

/// An object being written.
///
/// Dropped without `finish` or `abort`, it leaves nothing visible; leftovers
/// of an upload in parts are the store's to expire.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait BlobWriter: Send {
    /// Appends bytes; waits while too much is on its way.
    async fn write(&mut self, bytes: Bytes) -> Result<(), BlobError>;

    /// Makes the object visible.
    async fn finish(self: Box<Self>) -> Result<BlobStat, BlobError>;

    /// Throws away what was written.
    async fn abort(self: Box<Self>) -> Result<(), BlobError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stays_below_its_root() {
        for text in [
            "", "a//b", "/a", "a/", "../a", "a/./b", "a\\b", "a\0", "a/..", ".",
        ] {
            assert_eq!(BlobKey::parse(text), Err(InvalidBlobKey), "{text:?}");
        }
        assert!(BlobKey::parse("user-1/loras/ä b.safetensors").is_ok());
    }

    #[test]
    fn keys_that_are_made_keep_the_rules() {
        let longest = format!("{}.safetensors", "x".repeat(188));
        let (owner, id) = (UserId::new(Uuid::max()), Uuid::max());
        let filename = LoraFilename::parse(&longest).unwrap();
        for key in [
            BlobKey::of_lora(owner, &filename),
            BlobKey::of_lora_alone(owner, LoraId::new(id), &filename),
            BlobKey::of_upload_piece(owner, LoraId::new(id), u64::MAX, id),
            BlobKey::of_input(owner, InputId::new(id)),
        ] {
            assert_eq!(BlobKey::parse(key.as_str()), Ok(key));
        }
    }
}
