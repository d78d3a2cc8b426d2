//! The life of one WebSocket.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket};
use futures_util::StreamExt as _;
use futures_util::stream::SplitStream;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::sockets::{Socket, Upgrading};
use super::text_frame;
use crate::gate::Scissors;
use crate::instance::Instance;

/// A client that asked for a socket.
pub(crate) struct Session {
    registration: Registration,
    socket: Arc<Socket>,
    upgrading: Upgrading,
}

/// Ends with the session, even with one that never got a socket.
struct Registration {
    instance: Arc<Instance>,
    client_id: String,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.instance.sockets.deregister(&self.client_id);
    }
}

impl Session {
    /// Registers the client before it knows that it has a socket: a prompt that it submits at once finds it, as with the real server,
    /// whose one thread does both without a pause.
    pub(crate) async fn register(instance: Arc<Instance>, client_id: String) -> Self {
        let (socket, upgrading) = Socket::upgrading(instance.faults.clone()).await;
        let socket = Arc::new(socket);
        instance.sockets.register(&client_id, Arc::clone(&socket));
        Self {
            registration: Registration {
                instance,
                client_id,
            },
            socket,
            upgrading,
        }
    }

    /// Greets the client, then listens until it goes away or the connection is cut.
    pub(crate) async fn serve(self, websocket: WebSocket, scissors: Scissors) {
        let Registration {
            instance,
            client_id,
        } = &self.registration;
        let (sink, stream) = websocket.split();
        self.upgrading.finish(sink);
        let listening = async {
            greet(instance, client_id, &self.socket).await;
            listen(instance, client_id, &self.socket, stream).await;
        };
        tokio::select! {
            () = listening => {}
            () = cut_in_time(instance) => scissors.cut(),
        }
    }
}

async fn greet(instance: &Instance, client_id: &str, socket: &Socket) {
    let mut status = instance.status();
    if let Some(data) = status.as_object_mut() {
        data.insert("sid".to_owned(), client_id.into());
    }
    socket.send(text_frame("status", &status)).await;
    if let Some(node) = instance.node_running_for(client_id) {
        socket
            .send(text_frame("executing", &json!({"node": node})))
            .await;
    }
}

async fn listen(
    instance: &Instance,
    client_id: &str,
    socket: &Socket,
    mut stream: SplitStream<WebSocket>,
) {
    let mut first = true;
    while let Some(Ok(message)) = stream.next().await {
        // Text that is no JSON object does not count as the first message.
        let Message::Text(text) = message else {
            continue;
        };
        let Ok(Value::Object(mut message)) = serde_json::from_str(&text) else {
            continue;
        };
        if first && message.get("type").and_then(Value::as_str) == Some("feature_flags") {
            let flags = message.remove("data").unwrap_or_else(|| json!({}));
            instance.sockets.set_flags(client_id, flags);
            socket
                .send(text_frame("feature_flags", &instance.features()))
                .await;
        }
        first = false;
    }
}

/// Returns when the fault that cuts sockets says so; follows changes of the switch.
async fn cut_in_time(instance: &Instance) {
    let opened = Instant::now();
    let mut switches = instance.faults.follow();
    loop {
        let limit = switches.borrow_and_update().cut_sockets_every_ms;
        let changed = async {
            if switches.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        match limit {
            None => changed.await,
            Some(limit) => tokio::select! {
                () = tokio::time::sleep_until(opened + Duration::from_millis(limit)) => return,
                () = changed => {}
            },
        }
    }
}
