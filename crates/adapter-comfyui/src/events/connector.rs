use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ports::{ComfyError, ComfyEvent};
use futures_util::{SinkExt, Stream, StreamExt, stream};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::outbox::Outbox;
use super::socket::{Heartbeat, Socket, drain};
use crate::options::{ComfyOptions, ComfyOptionsError};
use crate::transport::Silent;

/// Must be the first message; then previews say which prompt they belong to.
const FEATURE_FLAGS: &str = r#"{"type":"feature_flags","data":{"supports_preview_metadata":true}}"#;

pub(crate) type EventStream = Pin<Box<dyn Stream<Item = Result<ComfyEvent, ComfyError>> + Send>>;

/// Opens sockets to one backend.
#[derive(Debug)]
pub(crate) struct Connector {
    url: Url,
    authorization: Option<HeaderValue>,
    connect_timeout: Duration,
    heartbeat: Heartbeat,
}

impl Connector {
    /// `url` is the HTTP address of the socket.
    pub(crate) fn new(options: &ComfyOptions, mut url: Url) -> Result<Self, ComfyOptionsError> {
        let secure = url.scheme() == "https";
        if secure {
            // The sockets' TLS takes the process's default; whoever set one before us decides.
            drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        }
        url.set_scheme(if secure { "wss" } else { "ws" })
            .map_err(|()| ComfyOptionsError::Url)?;
        Ok(Self {
            url,
            authorization: options.authorization()?,
            connect_timeout: options.connect_timeout,
            heartbeat: Heartbeat {
                ping_interval: options.ping_interval,
                pong_timeout: options.pong_timeout,
            },
        })
    }

    /// Opens a socket for a client id and drains it on `runtime` from then on.
    /// Dropping the stream closes it.
    pub(crate) async fn connect(
        &self,
        client_id: &str,
        runtime: &Handle,
    ) -> Result<EventStream, ComfyError> {
        let opened = timeout(self.connect_timeout, self.open(client_id)).await;
        let socket = opened
            .map_err(|_elapsed| {
                ComfyError::Unreachable(Box::new(Silent::after(self.connect_timeout)))
            })?
            .map_err(refusal)?;
        let outbox = Arc::new(Outbox::default());
        let draining = drain(socket, Arc::clone(&outbox), self.heartbeat);
        let task = AbortOnDropHandle::new(runtime.spawn(draining));
        let events = stream::unfold((outbox, task), |(outbox, task)| async move {
            outbox.next().await.map(|event| (event, (outbox, task)))
        });
        Ok(Box::pin(events.fuse()))
    }

    async fn open(&self, client_id: &str) -> Result<Socket, Error> {
        let mut url = self.url.clone();
        url.query_pairs_mut().append_pair("clientId", client_id);
        let mut request = url.as_str().into_client_request()?;
        if let Some(authorization) = &self.authorization {
            request
                .headers_mut()
                .insert(AUTHORIZATION, authorization.clone());
        }
        let (mut socket, _response) =
            tokio_tungstenite::connect_async_with_config(request, None, true).await?;
        socket.send(Message::text(FEATURE_FLAGS)).await?;
        Ok(socket)
    }
}

fn refusal(error: Error) -> ComfyError {
    let Error::Http(response) = &error else {
        return ComfyError::Unreachable(Box::new(error));
    };
    match response.status().as_u16() {
        // 200 is a login page, too: nobody answers an upgrade with it.
        status @ (200..=399 | 401 | 403 | 407) => ComfyError::Unauthorized { status },
        status @ 500..=599 => ComfyError::ServerError { status },
        status => ComfyError::Protocol(format!("the socket was refused with status {status}")),
    }
}
