use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use atelier_domain::lora::LoraSource;
use atelier_domain::ports::{
    ByteStream, RemoteError, RemoteFile, RemoteReader, RemoteSource, RemoteToken,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

use crate::Outage;
use crate::build::sha256_of;

/// How many bytes a chunk of a download has.
const CHUNK_BYTES: usize = 1_021;

/// A Google Drive, or a web, with the files that a test puts there. Clones
/// share it.
///
/// A file is known by one reference: an id of Drive's, or an address. What a
/// test does not script goes well: metadata are told in full, ranges are
/// known, and nobody is asked for a token.
///
/// ```
/// # async fn example() {
/// use atelier_domain::ports::RemoteSource as _;
/// use atelier_testkit::FakeRemote;
///
/// let drive = FakeRemote::drive();
/// drive.put("1AbCdEfGhIjK", "style.safetensors", "the bytes");
/// drive.break_next_download_at("1AbCdEfGhIjK", 4);
///
/// let file = drive.metadata("1AbCdEfGhIjK", None).await.unwrap();
/// assert_eq!(file.size_bytes, Some(9));
/// # }
/// # tokio::runtime::Runtime::new().unwrap().block_on(example());
/// ```
#[derive(Clone)]
pub struct FakeRemote {
    is_drive: bool,
    state: Arc<Mutex<State>>,
    held: watch::Sender<Option<u64>>,
    outage: Outage,
}

#[derive(Default)]
struct State {
    files: HashMap<String, Stored>,
    metadata_errors: VecDeque<RemoteError>,
    download_errors: VecDeque<RemoteError>,
    asked: usize,
    downloads: Vec<(String, u64)>,
}

#[derive(Clone)]
struct Stored {
    file: RemoteFile,
    bytes: Bytes,
    version: u32,
    wanted_token: Option<RemoteToken>,
    breaks_at: VecDeque<u64>,
    knows_ranges: bool,
}

impl fmt::Debug for FakeRemote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("FakeRemote")
            .field("is_drive", &self.is_drive)
            .finish_non_exhaustive()
    }
}

impl FakeRemote {
    /// An empty Drive: references are ids.
    pub fn drive() -> Self {
        Self::of_kind(true)
    }

    /// An empty web: references are addresses.
    pub fn web() -> Self {
        Self::of_kind(false)
    }

    fn of_kind(is_drive: bool) -> Self {
        Self {
            is_drive,
            state: Arc::default(),
            held: watch::Sender::new(None),
            outage: Outage::default(),
        }
    }

    /// Puts a file there, in place of one of the same reference; its revision
    /// is another one than that one's.
    pub fn put(&self, reference: &str, name: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        let sha256 = sha256_of(&bytes);
        let mut state = self.state.lock().unwrap();
        let version = state
            .files
            .get(reference)
            .map_or(1, |replaced| replaced.version + 1);
        let source = if self.is_drive {
            LoraSource::GoogleDrive {
                file_id: reference.to_owned(),
            }
        } else {
            LoraSource::Url {
                url: reference.to_owned(),
            }
        };
        let file = RemoteFile {
            source,
            resource_key: None,
            name: Some(name.to_owned()),
            size_bytes: Some(bytes.len() as u64),
            revision: Some(format!("revision-{version}")),
            md5: Some(md5_of(&bytes)),
            sha256: Some(sha256),
        };
        let stored = Stored {
            file,
            bytes,
            version,
            wanted_token: None,
            breaks_at: VecDeque::new(),
            knows_ranges: true,
        };
        state.files.insert(reference.to_owned(), stored);
    }

    /// Gives a file other bytes, and so another revision: downloads of the old
    /// one are refused from then on. Everything else of it stays.
    pub fn change(&self, reference: &str, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        self.with(reference, |stored| {
            stored.version += 1;
            let known = &mut stored.file;
            known.size_bytes = known.size_bytes.map(|_old| bytes.len() as u64);
            known.revision =
                (known.revision.is_some()).then(|| format!("revision-{}", stored.version));
            known.md5 = known.md5.take().map(|_old| md5_of(&bytes));
            known.sha256 = known.sha256.map(|_old| sha256_of(&bytes));
            stored.bytes = bytes;
        });
    }

    /// Changes what is told of a file: an unknown size, digests that are wrong
    /// or absent, a resource key.
    pub fn tell(&self, reference: &str, edit: impl FnOnce(&mut RemoteFile)) {
        self.with(reference, |stored| edit(&mut stored.file));
    }

    /// Takes a file away.
    pub fn remove(&self, reference: &str) {
        self.state.lock().unwrap().files.remove(reference);
    }

    /// Shows a file to those alone who lend this token.
    pub fn want_token(&self, reference: &str, token: &str) {
        let token = RemoteToken::parse(token).expect("the test gave a token");
        self.with(reference, |stored| stored.wanted_token = Some(token));
    }

    /// Makes the next download of a file that reaches byte `offset` break off
    /// before it. Further calls script the downloads after that one.
    pub fn break_next_download_at(&self, reference: &str, offset: u64) {
        self.with(reference, |stored| stored.breaks_at.push_back(offset));
    }

    /// Makes every download of a file begin at its first byte.
    pub fn forget_ranges(&self, reference: &str) {
        self.with(reference, |stored| stored.knows_ranges = false);
    }

    /// Makes the next question for metadata fail, whatever it asks for.
    pub fn fail_next_metadata(&self, error: RemoteError) {
        self.state.lock().unwrap().metadata_errors.push_back(error);
    }

    /// Makes the next download fail before its first byte.
    pub fn fail_next_download(&self, error: RemoteError) {
        self.state.lock().unwrap().download_errors.push_back(error);
    }

    /// Hands out no byte from `offset` on, in no download, until
    /// [`release`](Self::release).
    pub fn hold_downloads_at(&self, offset: u64) {
        self.held.send_replace(Some(offset));
    }

    /// Lets held downloads go on.
    pub fn release(&self) {
        self.held.send_replace(None);
    }

    /// Makes it unreachable.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    /// How often metadata were asked for.
    pub fn metadata_count(&self) -> usize {
        self.state.lock().unwrap().asked
    }

    /// The references and offsets of the downloads that were begun, in order.
    pub fn downloads(&self) -> Vec<(String, u64)> {
        self.state.lock().unwrap().downloads.clone()
    }

    fn with(&self, reference: &str, change: impl FnOnce(&mut Stored)) {
        let mut state = self.state.lock().unwrap();
        let stored = state.files.get_mut(reference);
        change(stored.expect("the test names a file that it put there"));
    }

    fn reachable(&self) -> Result<(), RemoteError> {
        match self.outage.source() {
            Some(source) => Err(RemoteError::Unavailable {
                retry_after: None,
                source,
            }),
            None => Ok(()),
        }
    }

    /// The bytes up to where they are held, and the rest once they are not.
    fn flowing(&self, bytes: &Bytes, offset: u64) -> ByteStream<RemoteError> {
        let chunks: Vec<(u64, Bytes)> = (0..bytes.len())
            .step_by(CHUNK_BYTES)
            .map(|at| {
                let end = bytes.len().min(at + CHUNK_BYTES);
                (offset + at as u64, bytes.slice(at..end))
            })
            .collect();
        let held = self.held.clone();
        stream::iter(chunks)
            .then(move |(at, chunk)| {
                let held = held.clone();
                async move {
                    let end = at + chunk.len() as u64;
                    let may_pass = |limit: &Option<u64>| limit.is_none_or(|limit| end <= limit);
                    // The sender lives in this very future, so the wait ends with leave alone.
                    drop(held.subscribe().wait_for(may_pass).await);
                    Ok(chunk)
                }
            })
            .boxed()
    }
}

impl Stored {
    fn admits(&self, token: Option<&RemoteToken>) -> Result<(), RemoteError> {
        match &self.wanted_token {
            Some(wanted) if token.is_none_or(|token| token != wanted) => Err(missing()),
            _ => Ok(()),
        }
    }

    /// Where the next download ends too early, if it does.
    fn next_break(&mut self, offset: u64) -> Option<u64> {
        self.breaks_at
            .front()
            .is_some_and(|at| *at >= offset)
            .then(|| self.breaks_at.pop_front())
            .flatten()
    }
}

fn missing() -> RemoteError {
    RemoteError::NotFound("the file is not there, or it is not shared".to_owned())
}

fn md5_of(bytes: &[u8]) -> String {
    use md5::Digest as _;
    hex::encode(md5::Md5::digest(bytes))
}

#[async_trait]
impl RemoteSource for FakeRemote {
    async fn metadata(
        &self,
        reference: &str,
        token: Option<RemoteToken>,
    ) -> Result<RemoteFile, RemoteError> {
        self.reachable()?;
        let mut state = self.state.lock().unwrap();
        state.asked += 1;
        if let Some(error) = state.metadata_errors.pop_front() {
            return Err(error);
        }
        let stored = state.files.get(reference).ok_or_else(missing)?;
        stored.admits(token.as_ref())?;
        Ok(stored.file.clone())
    }

    async fn download(
        &self,
        file: &RemoteFile,
        offset: u64,
        token: Option<RemoteToken>,
    ) -> Result<RemoteReader, RemoteError> {
        self.reachable()?;
        let reference = match &file.source {
            LoraSource::GoogleDrive { file_id } => file_id,
            LoraSource::Url { url } => url,
            LoraSource::Upload => return Err(missing()),
        };
        let mut state = self.state.lock().unwrap();
        state.downloads.push((reference.clone(), offset));
        if let Some(error) = state.download_errors.pop_front() {
            return Err(error);
        }
        let stored = state.files.get_mut(reference).ok_or_else(missing)?;
        stored.admits(token.as_ref())?;
        if stored.file.revision != file.revision {
            return Err(RemoteError::Changed);
        }
        let offset = if stored.knows_ranges { offset } else { 0 };
        let breaks_at = stored.next_break(offset);
        let whole = stored.bytes.len();
        let begin = usize::try_from(offset).map_or(whole, |offset| offset.min(whole));
        let end = breaks_at
            .and_then(|at| usize::try_from(at).ok())
            .map_or(whole, |at| at.clamp(begin, whole));
        let mut bytes = self.flowing(&stored.bytes.slice(begin..end), offset);
        if breaks_at.is_some() {
            let broken = RemoteError::Unavailable {
                retry_after: None,
                source: "the test broke the download off".into(),
            };
            bytes = bytes.chain(stream::iter([Err(broken)])).boxed();
        }
        Ok(RemoteReader {
            offset,
            size_bytes: stored.file.size_bytes,
            bytes,
        })
    }
}

#[cfg(test)]
mod tests;
