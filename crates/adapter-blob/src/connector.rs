use std::fmt;

use async_trait::async_trait;
use futures_util::{StreamExt, stream};
use http_body_util::{BodyExt, StreamBody};
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse,
    HttpResponseBody, HttpService, ReqwestConnector,
};
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;

/// How many frames of a body wait between the two runtimes. Hyper makes them
/// of at most about 400 KiB, so these are some 6 MiB.
const FRAMES: usize = 16;

/// Does all network I/O on one runtime: a connection lives and dies with the
/// runtime that opened it, and actix workers each have one of their own.
///
/// `object_store` has such a thing, but puts no bound to the bytes that wait
/// for a slow reader.
#[derive(Debug)]
pub(crate) struct RuntimeConnector {
    pub(crate) runtime: Handle,
}

impl HttpConnector for RuntimeConnector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(RuntimeService {
            client: ReqwestConnector::default().connect(options)?,
            runtime: self.runtime.clone(),
        }))
    }
}

#[derive(Debug)]
struct RuntimeService {
    client: HttpClient,
    runtime: Handle,
}

/// The runtime was shut down in the middle of a request.
struct RuntimeGone;

impl fmt::Debug for RuntimeGone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl fmt::Display for RuntimeGone {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the runtime for network I/O has stopped")
    }
}

impl std::error::Error for RuntimeGone {}

#[async_trait]
impl HttpService for RuntimeService {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let client = self.client.clone();
        let (head_sender, head) = oneshot::channel();
        let (frame_sender, frames) = mpsc::channel(FRAMES);
        let task = AbortOnDropHandle::new(self.runtime.spawn(async move {
            let (parts, mut body) = match client.execute(request).await {
                Ok(response) => response.into_parts(),
                Err(error) => {
                    // Nobody waits any more: there is nobody to tell.
                    drop(head_sender.send(Err(error)));
                    return;
                }
            };
            if head_sender.send(Ok(parts)).is_err() {
                return;
            }
            while let Some(frame) = body.frame().await {
                if frame_sender.send(frame).await.is_err() {
                    return;
                }
            }
        }));
        let parts = head
            .await
            .map_err(|_closed| HttpError::new(HttpErrorKind::Interrupted, RuntimeGone))??;
        // The task goes along with the body: whoever drops the body ends the request. Fused, since bodies are asked
        // again after their end.
        let frames = stream::unfold((frames, task), |(mut frames, task)| async move {
            frames.recv().await.map(|frame| (frame, (frames, task)))
        })
        .fuse();
        Ok(HttpResponse::from_parts(
            parts,
            HttpResponseBody::new(StreamBody::new(Box::pin(frames))),
        ))
    }
}
