use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use thiserror::Error;

use crate::digest::Sha256Digest;
use crate::lora::LoraSource;
use crate::ports::{ByteStream, Source};

/// A credential that somebody lends us for one import: kept in memory while it
/// is needed, and nowhere else.
#[derive(Clone, PartialEq, Eq)]
pub struct RemoteToken(String);

impl RemoteToken {
    /// Takes a bearer token: 1 to 4 096 visible ASCII characters. `None` for
    /// anything else.
    pub fn parse(text: &str) -> Option<Self> {
        let is_token =
            (1..=4_096).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        is_token.then(|| Self(text.to_owned()))
    }

    /// The token, for the request that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for RemoteToken {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("RemoteToken(..)")
    }
}

/// A file that lies somewhere else, as its metadata say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteFile {
    /// Where it lies: Drive's id of the file itself, shortcuts followed, or the
    /// address. Never [`LoraSource::Upload`].
    pub source: LoraSource,
    /// What Drive wants to hear besides the id, for links of before 2021.
    pub resource_key: Option<String>,
    /// What it is called there.
    pub name: Option<String>,
    /// How many bytes it has, where that is told.
    pub size_bytes: Option<u64>,
    /// Changes whenever the bytes do, where that is told.
    pub revision: Option<String>,
    /// The MD5 digest, 32 lower-case hexadecimal digits, where there is one.
    pub md5: Option<String>,
    /// The SHA-256 digest, where there is one.
    pub sha256: Option<Sha256Digest>,
}

/// Why a file was not handed out. The texts are for the person who asked: what
/// is wrong and what to do; they hold no credential and no other person's
/// names.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RemoteError {
    /// What was given names no file there.
    #[error("{0}")]
    Invalid(String),
    /// The file is not there, or not shared with us: many do not tell which.
    #[error("{0}")]
    NotFound(String),
    /// The file can never be imported like this.
    #[error("{0}")]
    Refused(String),
    /// The credential is no longer good, or does not reach so far.
    #[error("{0}")]
    Unauthorized(String),
    /// This server cannot do it, because it was not told how; the text names
    /// the environment variables.
    #[error("{0}")]
    NotConfigured(String),
    /// The bytes are other ones than those whose metadata were read.
    #[error("the file was changed while it was being imported")]
    Changed,
    /// Not now; try again.
    #[error("the file cannot be reached just now")]
    Unavailable {
        /// How long they asked us to wait.
        retry_after: Option<Duration>,
        /// What happened.
        #[source]
        source: Source,
    },
    /// An answer that makes no sense.
    #[error("the answer of where the file lies makes no sense")]
    Backend(#[source] Source),
}

/// A file being downloaded.
pub struct RemoteReader {
    /// Where in the file the bytes begin: what was asked for, or 0 where ranges
    /// are not known.
    pub offset: u64,
    /// How many bytes the whole file has, where that is told.
    pub size_bytes: Option<u64>,
    /// The bytes, to the end.
    pub bytes: ByteStream<RemoteError>,
}

impl fmt::Debug for RemoteReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("RemoteReader")
            .field("offset", &self.offset)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// Somewhere that LoRAs are imported from: Google Drive
/// (`reference/platform/PROTOCOLS.md` section 4), or the web.
///
/// Implementations wait no longer than some seconds for an answer, and try
/// again by themselves at most for that long.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait RemoteSource: Send + Sync {
    /// Reads a file's metadata. `reference` is what the person gave: an id, a
    /// share link or an address. `token` is theirs; without one it is this
    /// server's.
    async fn metadata(
        &self,
        reference: &str,
        token: Option<RemoteToken>,
    ) -> Result<RemoteFile, RemoteError>;

    /// Begins to download a file at a byte offset.
    ///
    /// # Errors
    /// [`RemoteError::Changed`] if the bytes are known to be other ones than
    /// those of `file`.
    async fn download(
        &self,
        file: &RemoteFile,
        offset: u64,
        token: Option<RemoteToken>,
    ) -> Result<RemoteReader, RemoteError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_shown_nowhere() {
        let token = RemoteToken::parse("ya29.secret").unwrap();

        assert!(!format!("{token:?}").contains("secret"));
        assert_eq!(RemoteToken::parse("two words"), None);
        assert_eq!(RemoteToken::parse(""), None);
    }
}
