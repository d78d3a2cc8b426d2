use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use atelier_domain::ids::RunId;
use atelier_domain::ports::{PreviewImage, PreviewStream, RepoError, RunPreviews};
use futures_util::{StreamExt as _, stream};
use tokio::sync::watch;

/// Previews within one process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct InMemoryPreviews {
    watched: Arc<Mutex<HashMap<RunId, watch::Sender<Option<PreviewImage>>>>>,
}

impl InMemoryPreviews {
    /// Nobody watches yet.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunId, watch::Sender<Option<PreviewImage>>>> {
        self.watched.lock().unwrap()
    }
}

#[async_trait]
impl RunPreviews for InMemoryPreviews {
    fn watch(&self, run: RunId) -> PreviewStream {
        let receiver = self.lock().entry(run).or_default().subscribe();
        stream::unfold(receiver, async |mut receiver| {
            loop {
                receiver.changed().await.ok()?;
                let latest = receiver.borrow_and_update().clone();
                if let Some(image) = latest {
                    return Some((image, receiver));
                }
            }
        })
        .boxed()
    }

    fn is_wanted(&self, run: RunId) -> bool {
        self.lock()
            .get(&run)
            .is_some_and(|sender| sender.receiver_count() > 0)
    }

    async fn publish(&self, run: RunId, image: PreviewImage) -> Result<(), RepoError> {
        let mut watched = self.lock();
        watched.retain(|_, sender| sender.receiver_count() > 0);
        if image.bytes.len() <= PreviewImage::MAX_BYTES
            && let Some(sender) = watched.get(&run)
        {
            sender.send_replace(Some(image));
        }
        Ok(())
    }
}
