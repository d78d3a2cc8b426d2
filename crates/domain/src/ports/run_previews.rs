use std::pin::Pin;

use async_trait::async_trait;
use futures_core::Stream;

use crate::ids::RunId;
use crate::ports::{PreviewImage, RepoError};

/// The latest preview of a run, again and again.
pub type PreviewStream = Pin<Box<dyn Stream<Item = PreviewImage> + Send>>;

/// Carries previews from the worker that has a run to whoever watches it, in
/// whichever process. Nothing is stored, anything may be lost.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait RunPreviews: Send + Sync {
    /// Begins to receive a run's previews: the latest, where several come before
    /// one is taken. Until it is dropped, [`RunPreviews::is_wanted`] is true for
    /// that run, in every process and within seconds.
    ///
    /// Whoever calls has made sure that the run is the watcher's.
    fn watch(&self, run: RunId) -> PreviewStream;

    /// Whether anybody watches: workers send nothing otherwise.
    fn is_wanted(&self, run: RunId) -> bool;

    /// Sends a preview to whoever watches.
    async fn publish(&self, run: RunId, image: PreviewImage) -> Result<(), RepoError>;
}
