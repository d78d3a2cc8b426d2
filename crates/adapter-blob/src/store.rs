use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::ports::{
    BlobEntry, BlobError, BlobKey, BlobReader, BlobStat, BlobStore, BlobWriter, ByteRange,
};
use futures_util::StreamExt;
use http::Method;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::local::LocalFileSystem;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, GetResultPayload, ObjectStore,
    ObjectStoreExt, RetryConfig,
};
use tokio::runtime::Handle;

use crate::connector::RuntimeConnector;
use crate::error::{ErrorMap, misuse};
use crate::keys::KeyMapping;
use crate::list::{self, Wanted};
use crate::options::{BlobOptions, BlobOptionsError, Place};
use crate::writer::PartWriter;
use crate::{file_reader, folder};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// The longest silence of a store, also while a part goes up.
const READ_TIMEOUT: Duration = Duration::from_mins(1);

/// S3's limit for a signed address: 7 days.
const LONGEST_SIGNATURE: Duration = Duration::from_hours(7 * 24);

/// An object that nobody writes; asking for it shows whether we are let in.
const SENTINEL: &str = ".atelier-check";

/// Opens an object store. S3 is not asked yet: [`BlobStore::check`] does that.
///
/// All I/O happens on `runtime`, whichever runtime the store is used from.
///
/// # Errors
/// What is wrong with the options, or with the folder.
pub fn open(options: BlobOptions, runtime: Handle) -> Result<ObjectStoreBlobs, BlobOptionsError> {
    let (store, keys, kind): (Arc<dyn ObjectStore>, _, _) = match options.place()? {
        Place::Memory => (
            Arc::new(InMemory::new()),
            KeyMapping::Verbatim { prefix: None },
            Kind::Memory,
        ),
        Place::Folder(root) => {
            let store = local(&root)?;
            let swept = root.clone();
            // What cannot be swept now will be another time.
            drop(runtime.spawn_blocking(move || drop(folder::sweep(&swept))));
            (Arc::new(store), KeyMapping::File, Kind::Folder(root))
        }
        Place::S3 { bucket, prefix } => {
            let store = Arc::new(s3(&options, bucket, runtime.clone())?);
            let kind = Kind::S3(Arc::clone(&store));
            (store, KeyMapping::Verbatim { prefix }, kind)
        }
    };
    let secrets = options.access_key.into_iter().chain(options.secret_key);
    Ok(ObjectStoreBlobs {
        store,
        keys,
        kind,
        runtime,
        errors: Arc::new(ErrorMap::hiding(secrets)),
    })
}

fn local(root: &std::path::Path) -> Result<LocalFileSystem, BlobOptionsError> {
    folder::prepare(root)?;
    let store =
        LocalFileSystem::new_with_prefix(root).map_err(|error| BlobOptionsError::Folder {
            folder: root.to_owned(),
            source: Box::new(error),
        })?;
    // Durable before visible: a row that says "ready" must not lose its object to a power cut.
    Ok(store.with_fsync(true).with_automatic_cleanup(true))
}

fn s3(
    options: &BlobOptions,
    bucket: String,
    runtime: Handle,
) -> Result<AmazonS3, BlobOptionsError> {
    let endpoint = options.checked_endpoint()?;
    let plain_http = endpoint.as_ref().is_some_and(|(_, plain_http)| *plain_http);
    let client = ClientOptions::new()
        .with_allow_http(plain_http)
        .with_connect_timeout(CONNECT_TIMEOUT)
        // The default ends every transfer after 30 seconds.
        .with_timeout_disabled()
        .with_read_timeout(READ_TIMEOUT);
    // The default tries for three minutes, while somebody waits.
    let retry = RetryConfig {
        backoff: BackoffConfig {
            init_backoff: Duration::from_millis(100),
            max_backoff: Duration::from_secs(2),
            base: 2.0,
        },
        max_retries: 4,
        retry_timeout: Duration::from_secs(20),
    };
    let mut builder = AmazonS3Builder::new()
        .with_bucket_name(bucket)
        .with_region(options.region.as_deref().unwrap_or("us-east-1"))
        .with_client_options(client)
        .with_retry(retry)
        .with_virtual_hosted_style_request(false)
        // Each part would be hashed once more, only to be signed: what is read back is checked against a digest.
        .with_unsigned_payload(true)
        .with_http_connector(RuntimeConnector { runtime });
    if let Some((endpoint, _)) = endpoint {
        builder = builder.with_endpoint(endpoint);
    }
    if let (Some(access_key), Some(secret_key)) = (&options.access_key, &options.secret_key) {
        builder = builder
            .with_access_key_id(access_key)
            .with_secret_access_key(secret_key);
    }
    builder
        .build()
        .map_err(|error| BlobOptionsError::Store(Box::new(error)))
}

/// An object store: S3, a local folder, or memory. Clones share it.
///
/// Streams both ways: a writer holds at most 40 MiB, a reader about 8.
#[derive(Clone)]
pub struct ObjectStoreBlobs {
    store: Arc<dyn ObjectStore>,
    keys: KeyMapping,
    kind: Kind,
    runtime: Handle,
    errors: Arc<ErrorMap>,
}

#[derive(Clone)]
enum Kind {
    Memory,
    Folder(PathBuf),
    S3(Arc<AmazonS3>),
}

impl fmt::Debug for ObjectStoreBlobs {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ObjectStoreBlobs")
            .field("store", &self.store.to_string())
            .finish_non_exhaustive()
    }
}

impl ObjectStoreBlobs {
    fn path(&self, key: &BlobKey) -> Result<Path, BlobError> {
        self.keys
            .path(key)
            .map_err(|error| self.errors.writing(&error))
    }

    /// Runs on the runtime for I/O, where connections and blocking threads are.
    async fn on_runtime<T, F>(&self, work: F) -> object_store::Result<T>
    where
        T: Send + 'static,
        F: Future<Output = object_store::Result<T>> + Send + 'static,
    {
        self.runtime.spawn(work).await?
    }

    async fn get(
        &self,
        path: Path,
        options: GetOptions,
    ) -> object_store::Result<object_store::GetResult> {
        let store = Arc::clone(&self.store);
        self.on_runtime(async move { store.get_opts(&path, options).await })
            .await
    }
}

#[async_trait]
impl BlobStore for ObjectStoreBlobs {
    async fn writer(&self, key: &BlobKey) -> Result<Box<dyn BlobWriter>, BlobError> {
        let (store, errors) = (Arc::clone(&self.store), Arc::clone(&self.errors));
        Ok(Box::new(PartWriter::new(
            store,
            self.path(key)?,
            self.runtime.clone(),
            errors,
        )))
    }

    async fn reader(
        &self,
        key: &BlobKey,
        range: Option<ByteRange>,
    ) -> Result<BlobReader, BlobError> {
        if range.is_some_and(|range| range.start >= range.end) {
            return Err(misuse("a range of bytes must not be empty"));
        }
        let options = GetOptions {
            range: range.map(|range| GetRange::Bounded(range.start..range.end)),
            ..GetOptions::default()
        };
        let result = self
            .get(self.path(key)?, options)
            .await
            .map_err(|error| self.errors.reading(key, &error))?;
        // Stores cut a range that reaches past the end, without a word.
        if range
            .is_some_and(|range| range.start != result.range.start || range.end != result.range.end)
        {
            return Err(misuse(
                "the range of bytes reaches past the end of the object",
            ));
        }
        let bytes = match result.payload {
            GetResultPayload::File(file, _) => file_reader::stream_of(
                file,
                result.range.start,
                result.range.end,
                self.runtime.clone(),
            ),
            GetResultPayload::Stream(stream) => {
                let (errors, key) = (Arc::clone(&self.errors), key.clone());
                Box::pin(
                    stream.map(move |chunk| chunk.map_err(|error| errors.reading(&key, &error))),
                )
            }
        };
        Ok(BlobReader {
            size_bytes: result.meta.size,
            bytes,
        })
    }

    async fn stat(&self, key: &BlobKey) -> Result<Option<BlobStat>, BlobError> {
        let (store, path) = (Arc::clone(&self.store), self.path(key)?);
        match self
            .on_runtime(async move { store.head(&path).await })
            .await
        {
            Ok(meta) => Ok(Some(BlobStat {
                size_bytes: meta.size,
            })),
            Err(error) => match self.errors.reading(key, &error) {
                BlobError::NotFound(_) => Ok(None),
                other => Err(other),
            },
        }
    }

    async fn delete(&self, key: &BlobKey) -> Result<(), BlobError> {
        let (store, path) = (Arc::clone(&self.store), self.path(key)?);
        match self
            .on_runtime(async move { store.delete(&path).await })
            .await
        {
            Ok(()) => Ok(()),
            Err(error) => match self.errors.reading(key, &error) {
                BlobError::NotFound(_) => Ok(()),
                other => Err(other),
            },
        }
    }

    async fn list(
        &self,
        prefix: &str,
        after: Option<BlobKey>,
        limit: u16,
    ) -> Result<Vec<BlobEntry>, BlobError> {
        if limit == 0 {
            return Ok(Vec::new());
        }
        let wanted = Wanted {
            prefix: prefix.to_owned(),
            after,
            limit: limit.into(),
        };
        let keys = self.keys.clone();
        let listed = match self.kind.clone() {
            Kind::Memory => {
                let store = Arc::clone(&self.store);
                self.on_runtime(async move { list::in_memory(&*store, &keys, wanted).await })
                    .await
            }
            Kind::Folder(root) => {
                let listing = move || {
                    list::in_folder(&root, &keys, wanted).map_err(|error| {
                        object_store::Error::Generic {
                            store: "folder",
                            source: Box::new(error),
                        }
                    })
                };
                let runtime = self.runtime.clone();
                self.on_runtime(async move { runtime.spawn_blocking(listing).await? })
                    .await
            }
            Kind::S3(store) => {
                self.on_runtime(async move { list::in_bucket(&store, &keys, wanted).await })
                    .await
            }
        };
        listed.map_err(|error| self.errors.writing(&error))
    }

    async fn signed_url(
        &self,
        key: &BlobKey,
        valid_for: Duration,
    ) -> Result<Option<String>, BlobError> {
        let Kind::S3(store) = &self.kind else {
            return Ok(None);
        };
        if valid_for > LONGEST_SIGNATURE {
            return Err(misuse("a signed address holds for at most 7 days"));
        }
        let (store, path) = (Arc::clone(store), self.path(key)?);
        let signed = self
            .on_runtime(async move { store.signed_url(Method::GET, &path, valid_for).await })
            .await;
        signed
            .map(|url| Some(url.into()))
            .map_err(|error| self.errors.reading(key, &error))
    }

    async fn check(&self) -> Result<(), BlobError> {
        match &self.kind {
            Kind::Memory => Ok(()),
            Kind::Folder(root) => {
                let root = root.clone();
                let checked = self
                    .runtime
                    .spawn_blocking(move || folder::check(&root))
                    .await;
                checked.unwrap_or_else(|error| Err(BlobError::Backend(Box::new(error))))
            }
            Kind::S3(_) => {
                let sentinel = BlobKey::parse(SENTINEL)
                    .map_err(|error| BlobError::Backend(Box::new(error)))?;
                // Not "head": its answer has no body, so a missing bucket would look like a missing object.
                match self.get(self.path(&sentinel)?, GetOptions::default()).await {
                    Ok(_) => Ok(()),
                    Err(error) => match self.errors.reading(&sentinel, &error) {
                        BlobError::NotFound(_) => Ok(()),
                        other => Err(other),
                    },
                }
            }
        }
    }
}
