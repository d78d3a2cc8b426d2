//! The publish loop: one queue of frames for all sockets, sent one after the other. A socket that is not read stalls everybody, which is
//! what the real server does too.

use std::sync::Arc;

use axum::extract::ws::Message;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::watch;

use super::sockets::Sockets;
use crate::faults::{Faults, FaultsHandle};

/// Who gets a frame.
#[derive(Clone, Debug)]
pub(crate) enum Audience {
    Everybody,
    /// The socket that is registered under this client id when the frame's turn comes; without one the frame is dropped.
    Client(String),
}

/// A frame on its way.
#[derive(Debug)]
struct Outgoing {
    audience: Audience,
    frame: Message,
}

/// Hands frames to the publish loop. The loop ends with the last publisher.
#[derive(Clone, Debug)]
pub(crate) struct Publisher {
    outgoing: UnboundedSender<Outgoing>,
}

impl Publisher {
    /// Starts the publish loop on the current runtime.
    pub(crate) fn start(sockets: Arc<Sockets>, faults: &FaultsHandle) -> Self {
        let (outgoing, incoming) = unbounded_channel();
        tokio::spawn(publish(incoming, sockets, faults.follow()));
        Self { outgoing }
    }

    /// Queues a frame. After the end of the loop there is nobody left to get it.
    pub(crate) fn send(&self, audience: Audience, frame: Message) {
        if self.outgoing.send(Outgoing { audience, frame }).is_err() {
            tracing::debug!("a frame came after the end of the publish loop");
        }
    }
}

async fn publish(
    mut incoming: UnboundedReceiver<Outgoing>,
    sockets: Arc<Sockets>,
    mut switches: watch::Receiver<Faults>,
) {
    while let Some(Outgoing { audience, frame }) = incoming.recv().await {
        if switches
            .wait_for(|faults| !faults.stall_publisher)
            .await
            .is_err()
        {
            return;
        }
        for socket in sockets.reached_by(&audience) {
            socket.send(frame.clone()).await;
        }
    }
}
