use std::time::Duration;

use atelier_domain::digest::Sha256Digest;
use atelier_domain::output::{
    BackendFile, BackendFolder, BackendOutput, BackendOutputContent, OutputKind, RunOutput,
};
use atelier_domain::ports::{
    BlobError, BlobKey, BlobStore, BlobWriter, ClaimedRun, ComfyClient, ComfyError, OutputReader,
};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use sha2::{Digest as _, Sha256};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::Backoff;
use super::media::{HEAD_BYTES, Media};
use super::output_names::OutputNames;
use super::station::{ANSWER_TIMEOUT, bounded};

/// Files that are brought home at once.
const AT_ONCE: usize = 3;

/// How often a file that the backend does not find is asked for.
const MISSING_LOOKS: u32 = 4;

/// Why the outputs are not all at home.
#[derive(Debug, Error)]
pub(super) enum CollectionError {
    /// The backend no longer has a file.
    #[error("an output of node {node_id} is gone")]
    Lost { node_id: String },
    /// The backend, or the object store, has not answered for too long.
    #[error("an output could not be brought home: {0}")]
    Away(String),
}

/// Brings the outputs of one run home.
pub(super) struct Collection<'a> {
    client: &'a dyn ComfyClient,
    blobs: &'a dyn BlobStore,
    claimed: &'a ClaimedRun,
    patience: Duration,
    stored: Vec<RunOutput>,
}

/// Why one try at one file failed.
#[derive(Debug, Error)]
enum FetchError {
    #[error(transparent)]
    Comfy(#[from] ComfyError),
    #[error(transparent)]
    Blob(#[from] BlobError),
    #[error("nothing came for too long")]
    Stalled,
    #[error("{received} of {announced} bytes came")]
    CutShort { received: u64, announced: u64 },
}

/// One output and where it goes.
struct Item {
    index: u32,
    node_id: String,
    filename: String,
    key: BlobKey,
    content: BackendOutputContent,
}

/// What passed on its way into the store.
struct Passing {
    hasher: Sha256,
    size_bytes: u64,
    head: Vec<u8>,
}

impl<'a> Collection<'a> {
    pub(super) fn new(
        client: &'a dyn ComfyClient,
        blobs: &'a dyn BlobStore,
        claimed: &'a ClaimedRun,
        patience: Duration,
    ) -> Self {
        Self {
            client,
            blobs,
            claimed,
            patience,
            stored: Vec::new(),
        }
    }

    /// What is at home so far, in order.
    pub(super) fn into_stored(self) -> Vec<RunOutput> {
        self.stored
    }

    /// Stores the outputs in their order, and stops at the first that cannot be
    /// had.
    pub(super) async fn bring_home(
        &mut self,
        outputs: &[BackendOutput],
    ) -> Result<(), CollectionError> {
        let fetching = Fetching {
            client: self.client,
            blobs: self.blobs,
            patience: self.patience,
        };
        let items = self.choose(outputs);
        let mut arriving = stream::iter(items)
            .map(|item| fetching.store(item))
            .buffered(AT_ONCE);
        while let Some(stored) = arriving.next().await {
            self.stored.push(stored?);
        }
        Ok(())
    }

    /// What is stored: saved files and texts; previews only where nothing was
    /// saved. Echoed inputs are not the run's, and what lies in another user's
    /// folder is not for this one.
    fn choose(&self, outputs: &[BackendOutput]) -> Vec<Item> {
        let is_saved = |output: &BackendOutput| self.is_own(output, BackendFolder::Output);
        let files_from = if outputs.iter().any(is_saved) {
            BackendFolder::Output
        } else {
            BackendFolder::Temporary
        };
        let mut names = OutputNames::new(self.claimed.user_id, self.claimed.run_id);
        outputs
            .iter()
            .filter(|output| match &output.content {
                BackendOutputContent::File(_) => self.is_own(output, files_from),
                BackendOutputContent::Text(_) => true,
            })
            .zip(0_u32..)
            .map(|(output, index)| {
                let filename = match &output.content {
                    BackendOutputContent::File(file) => file.filename.clone(),
                    BackendOutputContent::Text(_) => {
                        format!("{}-{}.txt", output.key, output.node_id)
                    }
                };
                Item {
                    index,
                    node_id: output.node_id.clone(),
                    key: names.key(index, &filename),
                    filename,
                    content: output.content.clone(),
                }
            })
            .collect()
    }

    fn is_own(&self, output: &BackendOutput, folder: BackendFolder) -> bool {
        let BackendOutputContent::File(file) = &output.content else {
            return false;
        };
        if file.folder != folder {
            return false;
        }
        let first = file
            .subfolder
            .split(['/', '\\'])
            .find(|segment| !segment.is_empty());
        let is_foreign = first.is_some_and(|first| {
            first
                .get(..5)
                .is_some_and(|mark| mark.eq_ignore_ascii_case("user-"))
                && first != format!("user-{}", self.claimed.user_id)
        });
        if is_foreign {
            tracing::error!(
                node.id = output.node_id,
                "a backend lists another user's file as an output of this run; it is left out"
            );
        }
        !is_foreign
    }
}

/// Copies single files.
struct Fetching<'a> {
    client: &'a dyn ComfyClient,
    blobs: &'a dyn BlobStore,
    patience: Duration,
}

impl Fetching<'_> {
    async fn store(&self, item: Item) -> Result<RunOutput, CollectionError> {
        let until = Instant::now() + self.patience;
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut missing = 0;
        loop {
            let error = match self.store_once(&item).await {
                Ok(stored) => return Ok(stored),
                Err(error) => error,
            };
            tracing::warn!(
                node.id = item.node_id,
                error = &error as &dyn std::error::Error,
                "an output did not come home"
            );
            if matches!(error, FetchError::Comfy(ComfyError::NotFound(_))) {
                missing += 1;
                if missing >= MISSING_LOOKS {
                    return Err(CollectionError::Lost {
                        node_id: item.node_id.clone(),
                    });
                }
            } else if Instant::now() >= until {
                return Err(CollectionError::Away(error.to_string()));
            }
            sleep(backoff.next()).await;
        }
    }

    async fn store_once(&self, item: &Item) -> Result<RunOutput, FetchError> {
        let (passing, told) = match &item.content {
            BackendOutputContent::Text(text) => (self.store_text(text, &item.key).await?, None),
            BackendOutputContent::File(file) => self.store_file(file, &item.key).await?,
        };
        let media = match &item.content {
            BackendOutputContent::Text(_) => Media {
                content_type: "text/plain; charset=utf-8".to_owned(),
                dimensions: None,
            },
            BackendOutputContent::File(_) => {
                Media::of(&passing.head, told.as_deref(), &item.filename)
            }
        };
        Ok(RunOutput {
            index: item.index,
            node_id: item.node_id.clone(),
            kind: OutputKind::of_content_type(&media.content_type),
            filename: item.filename.clone(),
            content_type: media.content_type,
            size_bytes: passing.size_bytes,
            sha256: Sha256Digest::new(passing.hasher.finalize().into()),
            dimensions: media.dimensions,
            blob_key: item.key.clone(),
        })
    }

    async fn store_text(&self, text: &str, key: &BlobKey) -> Result<Passing, FetchError> {
        let mut writer = unless_stalled(self.blobs.writer(key)).await??;
        let mut passing = Passing::new();
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        passing.take(&bytes);
        unless_stalled(writer.write(bytes)).await??;
        unless_stalled(writer.finish()).await??;
        Ok(passing)
    }

    /// Also answers what the backend says the file is.
    async fn store_file(
        &self,
        file: &BackendFile,
        key: &BlobKey,
    ) -> Result<(Passing, Option<String>), FetchError> {
        let mut reader = bounded(
            ANSWER_TIMEOUT.min(self.patience),
            self.client.fetch_output(file),
        )
        .await?;
        let mut writer = unless_stalled(self.blobs.writer(key)).await??;
        match pass(&mut reader, writer.as_mut()).await {
            Ok(passing) => {
                unless_stalled(writer.finish()).await??;
                Ok((passing, reader.content_type))
            }
            Err(error) => {
                // The error at hand says more than a second one would.
                drop(unless_stalled(writer.abort()).await);
                Err(error)
            }
        }
    }
}

async fn pass(
    reader: &mut OutputReader,
    writer: &mut dyn BlobWriter,
) -> Result<Passing, FetchError> {
    let mut passing = Passing::new();
    while let Some(piece) = unless_stalled(reader.bytes.next()).await? {
        let piece = piece?;
        passing.take(&piece);
        unless_stalled(writer.write(piece)).await??;
    }
    match reader.size_bytes {
        Some(announced) if announced != passing.size_bytes => Err(FetchError::CutShort {
            received: passing.size_bytes,
            announced,
        }),
        _ => Ok(passing),
    }
}

impl Passing {
    fn new() -> Self {
        Self {
            hasher: Sha256::new(),
            size_bytes: 0,
            head: Vec::new(),
        }
    }

    fn take(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
        self.size_bytes = self
            .size_bytes
            .saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
        let wanted = HEAD_BYTES.saturating_sub(self.head.len()).min(piece.len());
        self.head.extend(piece.iter().take(wanted));
    }
}

async fn unless_stalled<F: Future>(step: F) -> Result<F::Output, FetchError> {
    timeout(ANSWER_TIMEOUT, step).await.map_err(stalled)
}

fn stalled(_elapsed: tokio::time::error::Elapsed) -> FetchError {
    FetchError::Stalled
}
