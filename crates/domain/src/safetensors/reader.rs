//! Takes a file's bytes as they come.

use super::error::{ForeignFormat, SafetensorsError};
use super::header::SafetensorsHeader;
use super::parse::parse_header;

/// Bytes that a header may have: 32 MiB. The reference implementation takes 100 MB, which would be too much to hold
/// for every upload at once.
pub const MAX_HEADER_BYTES: u64 = 32 * 1024 * 1024;

const LENGTH_BYTES: usize = 8;

/// The smallest header, `{}`.
const MIN_HEADER_BYTES: u64 = 2;

/// How far [`HeaderReader`] has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The header is not complete yet.
    NeedsMore,
    /// The header is complete and valid; bytes fed from now on are tensors' bytes and are not looked at.
    Complete,
}

/// Reads the header of a file that streams by, in chunks of any size.
///
/// Holds the header alone, at most [`MAX_HEADER_BYTES`] and what is parsed out of it, and nothing of the tensors.
/// The outcome depends on the bytes, never on how they are cut into chunks.
#[derive(Debug, Default)]
pub struct HeaderReader(State);

#[derive(Debug)]
enum State {
    /// Collecting the 8 bytes of length and the header's first byte, which decide what this is.
    Start(Vec<u8>),
    /// Collecting the header.
    Header { needed: usize, text: Vec<u8> },
    /// Done.
    Complete(SafetensorsHeader),
    /// Refused; later calls repeat the refusal.
    Refused(SafetensorsError),
}

impl Default for State {
    fn default() -> Self {
        Self::Start(Vec::with_capacity(LENGTH_BYTES + 1))
    }
}

impl HeaderReader {
    /// A reader at the start of a file.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the file.
    ///
    /// # Errors
    /// What is wrong with the file, as soon as it can be known; the same again for every later call.
    pub fn feed(&mut self, chunk: &[u8]) -> Result<Progress, SafetensorsError> {
        let mut rest = chunk;
        loop {
            let next = match &mut self.0 {
                State::Complete(_) => return Ok(Progress::Complete),
                State::Refused(error) => return Err(error.clone()),
                State::Start(start) => {
                    rest = take(start, LENGTH_BYTES + 1, rest);
                    if start.len() <= LENGTH_BYTES {
                        // A length alone can be absurd already.
                        match announced_len(start).map(check_len) {
                            Some(Err(error)) => State::Refused(named(start, error)),
                            Some(Ok(_)) | None => return Ok(Progress::NeedsMore),
                        }
                    } else {
                        begin_header(start)
                    }
                }
                State::Header { needed, text } => {
                    rest = take(text, *needed, rest);
                    if text.len() < *needed {
                        return Ok(Progress::NeedsMore);
                    }
                    match parse_header(text) {
                        Ok(header) => State::Complete(header),
                        Err(error) => State::Refused(error),
                    }
                }
            };
            self.0 = next;
        }
    }

    /// The header, once it is complete: with it a caller can refuse a file that is going to be too long.
    pub fn header(&self) -> Option<&SafetensorsHeader> {
        match &self.0 {
            State::Complete(header) => Some(header),
            State::Start(_) | State::Header { .. } | State::Refused(_) => None,
        }
    }

    /// Ends the file, which had `total_bytes` bytes, and answers its header.
    ///
    /// # Errors
    /// The file ended within its header, has fewer or more bytes than its header describes, or was refused before.
    pub fn finish(self, total_bytes: u64) -> Result<SafetensorsHeader, SafetensorsError> {
        match self.0 {
            State::Refused(error) => Err(error),
            State::Start(start) => Err(named(
                &start,
                SafetensorsError::TooShort { bytes: total_bytes },
            )),
            State::Header { needed, .. } => Err(SafetensorsError::Truncated {
                expected: (LENGTH_BYTES as u64).saturating_add(needed as u64),
                actual: total_bytes,
            }),
            State::Complete(header) => {
                let expected = header.expected_file_size();
                match total_bytes.cmp(&expected) {
                    std::cmp::Ordering::Less => Err(SafetensorsError::Truncated {
                        expected,
                        actual: total_bytes,
                    }),
                    std::cmp::Ordering::Greater => Err(SafetensorsError::Appended {
                        expected,
                        actual: total_bytes,
                    }),
                    std::cmp::Ordering::Equal => Ok(header),
                }
            }
        }
    }
}

/// Moves bytes from `rest` to `kept` until that has `wanted` of them; answers what is left.
fn take<'a>(kept: &mut Vec<u8>, wanted: usize, rest: &'a [u8]) -> &'a [u8] {
    let missing = wanted.saturating_sub(kept.len()).min(rest.len());
    let (taken, left) = rest.split_at(missing);
    kept.extend_from_slice(taken);
    left
}

fn announced_len(start: &[u8]) -> Option<u64> {
    start
        .first_chunk::<LENGTH_BYTES>()
        .copied()
        .map(u64::from_le_bytes)
}

fn check_len(announced: u64) -> Result<usize, SafetensorsError> {
    if announced < MIN_HEADER_BYTES {
        return Err(SafetensorsError::HeaderTooSmall { announced });
    }
    usize::try_from(announced)
        .ok()
        .filter(|_| announced <= MAX_HEADER_BYTES)
        .ok_or(SafetensorsError::HeaderTooLarge {
            announced,
            limit: MAX_HEADER_BYTES,
        })
}

fn begin_header(start: &[u8]) -> State {
    let (length, first) = start.split_at(LENGTH_BYTES.min(start.len()));
    match announced_len(length).map_or(Err(SafetensorsError::NotAHeader), check_len) {
        Ok(needed) if first == b"{" => {
            // The memory is only touched as the bytes come, so a false announcement costs nothing.
            let mut text = Vec::with_capacity(needed);
            text.extend_from_slice(first);
            State::Header { needed, text }
        }
        Ok(_) => State::Refused(named(start, SafetensorsError::NotAHeader)),
        Err(error) => State::Refused(named(start, error)),
    }
}

/// The error, or the name of the format that the bytes are instead.
fn named(start: &[u8], error: SafetensorsError) -> SafetensorsError {
    // Eight bytes are what every path here has, unless the file is shorter.
    let start = start.get(..LENGTH_BYTES).unwrap_or(start);
    ForeignFormat::of(start).map_or(error, SafetensorsError::Foreign)
}
