//! Objects in S3 (MinIO and its kin), in a local folder, or in memory: the
//! adapter of the [`BlobStore`](atelier_domain::ports::BlobStore) port.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use atelier_blob::BlobOptions;
//! use atelier_domain::ports::{BlobKey, BlobStore};
//!
//! let options = BlobOptions { url: "memory:".to_owned(), ..BlobOptions::default() };
//! let blobs = atelier_blob::open(options, tokio::runtime::Handle::current())?;
//!
//! let key = BlobKey::parse("user-1/loras/style.safetensors")?;
//! let mut writer = blobs.writer(&key).await?;
//! writer.write("the bytes".into()).await?;
//! assert_eq!(writer.finish().await?.size_bytes, 9);
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(example()).unwrap();
//! ```

mod connector;
mod error;
mod file_reader;
mod folder;
mod keys;
mod list;
mod options;
mod store;
mod writer;

pub use options::{BlobOptions, BlobOptionsError};
pub use store::{ObjectStoreBlobs, open};
