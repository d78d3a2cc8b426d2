use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ports::ComfyError;
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::{Bytes, Message};
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::frame::{event_of, preview_of};
use super::outbox::Outbox;
use crate::transport::Silent;

pub(crate) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// When to ask whether the other side is still there, and when to give up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heartbeat {
    pub(crate) ping_interval: Duration,
    pub(crate) pong_timeout: Duration,
}

/// Reads a socket until it ends, whether anybody listens or not.
pub(crate) async fn drain(mut socket: Socket, outbox: Arc<Outbox>, heartbeat: Heartbeat) {
    let end = drain_until_end(&mut socket, &outbox, heartbeat).await;
    outbox.end(end);
}

/// `None` if the other side closed the socket in good order.
async fn drain_until_end(
    socket: &mut Socket,
    outbox: &Outbox,
    heartbeat: Heartbeat,
) -> Option<ComfyError> {
    let silent = || {
        Some(ComfyError::Unreachable(Box::new(Silent::after(
            heartbeat.pong_timeout,
        ))))
    };
    let mut pings = interval(heartbeat.ping_interval);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut heard = Instant::now();
    loop {
        tokio::select! {
            message = socket.next() => {
                heard = Instant::now();
                match message {
                    Some(Ok(Message::Text(text))) => event_of(&text).into_iter().for_each(|event| outbox.push(event)),
                    Some(Ok(Message::Binary(frame))) => preview_of(&frame).into_iter().for_each(|event| outbox.push(event)),
                    Some(Ok(Message::Close(_))) | None => return None,
                    // Pongs.
                    Some(Ok(_)) => {}
                    Some(Err(error)) => return Some(ComfyError::Unreachable(Box::new(error))),
                }
            }
            _ = pings.tick() => {
                if heard.elapsed() > heartbeat.pong_timeout {
                    return silent();
                }
                match timeout(heartbeat.pong_timeout, socket.send(Message::Ping(Bytes::new()))).await {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => return Some(ComfyError::Unreachable(Box::new(error))),
                    Err(_elapsed) => return silent(),
                }
            }
        }
    }
}
