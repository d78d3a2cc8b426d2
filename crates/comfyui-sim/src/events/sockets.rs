//! Which client id belongs to which open socket.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ws::{Message, WebSocket};
use futures_util::SinkExt as _;
use futures_util::stream::SplitSink;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::publisher::Audience;
use crate::faults::FaultsHandle;

type Sink = SplitSink<WebSocket, Message>;

/// The sending half of a WebSocket.
#[derive(Debug)]
pub(crate) struct Socket {
    /// Nothing before the upgrade is through, and for ever if it fails.
    sink: Arc<tokio::sync::Mutex<Option<Sink>>>,
    faults: FaultsHandle,
}

/// The upgrade of a connection: what is sent to its socket waits until it is through.
#[derive(Debug)]
pub(crate) struct Upgrading(OwnedMutexGuard<Option<Sink>>);

impl Upgrading {
    /// The upgrade is through, and the client hears what has waited.
    pub(crate) fn finish(mut self, sink: Sink) {
        *self.0 = Some(sink);
    }
}

impl Socket {
    /// A socket of a connection that is not upgraded yet.
    pub(crate) async fn upgrading(faults: FaultsHandle) -> (Self, Upgrading) {
        let sink = Arc::new(tokio::sync::Mutex::new(None));
        let held = Arc::clone(&sink).lock_owned().await;
        (Self { sink, faults }, Upgrading(held))
    }

    /// Sends a frame and waits until the operating system has taken it all. A dead socket takes everything.
    pub(crate) async fn send(&self, frame: Message) {
        if self.faults.current().deaf_sockets {
            return;
        }
        let mut sink = self.sink.lock().await;
        let Some(sink) = sink.as_mut() else { return };
        if let Err(error) = sink.send(frame).await {
            tracing::debug!("a frame could not be sent: {error}");
        }
    }
}

#[derive(Debug)]
struct Registration {
    socket: Arc<Socket>,
    flags: Value,
}

/// The open sockets by client id. Only the newest socket of a client id is registered.
#[derive(Debug, Default)]
pub(crate) struct Sockets {
    registered: Mutex<HashMap<String, Registration>>,
}

impl Sockets {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Registration>> {
        self.registered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Registers a socket; an older one with the same client id stays open, but gets nothing any more.
    pub(crate) fn register(&self, client_id: &str, socket: Arc<Socket>) {
        self.lock().insert(
            client_id.to_owned(),
            Registration {
                socket,
                flags: Value::Null,
            },
        );
    }

    /// Forgets the client id, whichever socket is registered under it: the end of an old socket makes its successor deaf.
    pub(crate) fn deregister(&self, client_id: &str) {
        self.lock().remove(client_id);
    }

    pub(crate) fn set_flags(&self, client_id: &str, flags: Value) {
        if let Some(registration) = self.lock().get_mut(client_id) {
            registration.flags = flags;
        }
    }

    /// Whether the client announced this feature.
    pub(crate) fn supports(&self, client_id: &str, feature: &str) -> bool {
        let registered = self.lock();
        let flag = registered
            .get(client_id)
            .and_then(|registration| registration.flags.get(feature));
        flag.and_then(Value::as_bool).unwrap_or(false)
    }

    pub(crate) fn reached_by(&self, audience: &Audience) -> Vec<Arc<Socket>> {
        let registered = self.lock();
        match audience {
            Audience::Everybody => registered
                .values()
                .map(|registration| Arc::clone(&registration.socket))
                .collect(),
            Audience::Client(client_id) => registered
                .get(client_id)
                .map(|registration| Arc::clone(&registration.socket))
                .into_iter()
                .collect(),
        }
    }
}
