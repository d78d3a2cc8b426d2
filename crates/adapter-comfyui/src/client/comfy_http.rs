use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use atelier_domain::input::InputPath;
use atelier_domain::output::BackendFile;
use atelier_domain::ports::{
    BackendInformation, BackendQueue, ByteStream, ComfyClient, ComfyError, ComfyEvents, IdGen,
    LoraCatalogue, OutputReader, PromptState, PromptSubmission, Source, SubmittedPrompt,
};
use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::backend::Backend;
use super::input::InputUpload;
use crate::events::Connector;
use crate::options::{ComfyOptions, ComfyOptionsError};
use crate::transport::Transport;

/// One ComfyUI backend over HTTP and WebSocket. Clones share its connections.
///
/// All I/O happens on the runtime that it was made with, whichever runtime it
/// is used from. Dropping a future gives its request up; the backend may carry
/// it out all the same.
#[derive(Clone)]
pub struct ComfyHttp {
    backend: Arc<Backend>,
    connector: Arc<Connector>,
    ids: Arc<dyn IdGen>,
    runtime: Handle,
}

impl std::fmt::Debug for ComfyHttp {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("ComfyHttp")
            .field("url", &self.backend.transport.url(&[]).as_str())
            .finish_non_exhaustive()
    }
}

impl ComfyHttp {
    /// Prepares a client; nothing is sent yet. `ids` names the sockets.
    ///
    /// # Errors
    /// What is wrong with the options.
    #[expect(
        clippy::needless_pass_by_value,
        reason = "they hold secrets: nobody should keep them for longer than needed"
    )]
    pub fn new(
        options: ComfyOptions,
        ids: Arc<dyn IdGen>,
        runtime: Handle,
    ) -> Result<Self, ComfyOptionsError> {
        let transport = Transport::new(&options)?;
        let connector = Connector::new(&options, transport.url(&["ws"]))?;
        Ok(Self {
            backend: Arc::new(Backend::new(transport)),
            connector: Arc::new(connector),
            ids,
            runtime,
        })
    }

    async fn run<T, F>(&self, work: impl FnOnce(Arc<Backend>) -> F + Send) -> Result<T, ComfyError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ComfyError>> + Send + 'static,
    {
        let task = AbortOnDropHandle::new(self.runtime.spawn(work(Arc::clone(&self.backend))));
        let done = task
            .await
            .unwrap_or_else(|error| Err(ComfyError::AnswerLost(Box::new(error))));
        self.backend.note(done)
    }
}

#[async_trait]
impl ComfyClient for ComfyHttp {
    async fn submit(&self, submission: PromptSubmission) -> Result<SubmittedPrompt, ComfyError> {
        self.run(|backend| async move { backend.submit(submission).await })
            .await
    }

    async fn prompt_state(&self, prompt_id: &str) -> Result<PromptState, ComfyError> {
        let prompt_id = prompt_id.to_owned();
        self.run(|backend| async move { backend.prompt_state(&prompt_id).await })
            .await
    }

    async fn cancel(&self, prompt_id: &str) -> Result<(), ComfyError> {
        let prompt_id = prompt_id.to_owned();
        self.run(|backend| async move { backend.cancel(&prompt_id).await })
            .await
    }

    async fn queue(&self) -> Result<BackendQueue, ComfyError> {
        self.run(|backend| async move { backend.queue().await })
            .await
    }

    async fn lora_catalogue(&self) -> Result<LoraCatalogue, ComfyError> {
        self.run(|backend| async move { backend.lora_catalogue().await })
            .await
    }

    async fn checkpoint_metadata(
        &self,
        checkpoint: &str,
    ) -> Result<BTreeMap<String, String>, ComfyError> {
        let checkpoint = checkpoint.to_owned();
        self.run(|backend| async move { backend.checkpoint_metadata(&checkpoint).await })
            .await
    }

    async fn place_input(
        &self,
        path: &InputPath,
        size_bytes: u64,
        bytes: ByteStream<Source>,
    ) -> Result<(), ComfyError> {
        let path = path.clone();
        let boundary = format!("atelier-{}", self.ids.new_id().simple());
        self.run(|backend| async move {
            let upload = InputUpload {
                path,
                size_bytes,
                bytes,
                boundary,
            };
            backend.place_input(upload).await
        })
        .await
    }

    async fn connect_events(&self) -> Result<ComfyEvents, ComfyError> {
        // A backend that needs a new socket may be a new one.
        self.backend.forget();
        let client_id = self.ids.new_id().simple().to_string();
        let (connector, runtime) = (Arc::clone(&self.connector), self.runtime.clone());
        let named = client_id.clone();
        let stream = self
            .run(|_backend| async move { connector.connect(&named, &runtime).await })
            .await?;
        Ok(ComfyEvents { client_id, stream })
    }

    async fn fetch_output(&self, file: &BackendFile) -> Result<OutputReader, ComfyError> {
        let file = file.clone();
        self.run(|backend| async move { backend.fetch_output(&file).await })
            .await
    }

    async fn information(&self) -> Result<BackendInformation, ComfyError> {
        self.run(|backend| async move { backend.information().await })
            .await
    }
}
