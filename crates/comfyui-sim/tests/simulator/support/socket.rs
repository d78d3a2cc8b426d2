//! A WebSocket client that remembers its frames.

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::PATIENCE;

/// One frame from the server.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Frame {
    Text(Value),
    Binary(Vec<u8>),
}

impl Frame {
    /// The type of a text frame, or `binary:1` and so on.
    pub(crate) fn kind(&self) -> String {
        match self {
            Self::Text(value) => value["type"].as_str().unwrap_or_default().to_owned(),
            Self::Binary(bytes) => format!("binary:{}", bytes[3]),
        }
    }

    pub(crate) fn data(&self) -> &Value {
        match self {
            Self::Text(value) => &value["data"],
            Self::Binary(_) => &Value::Null,
        }
    }

    /// Whether this is the last frame of a prompt.
    pub(crate) fn ends(&self, prompt_id: &str) -> bool {
        self.kind() == "executing"
            && self.data()["node"].is_null()
            && self.data()["prompt_id"] == prompt_id
    }
}

/// An open socket.
pub(crate) struct Socket {
    stream: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Socket {
    pub(crate) async fn open(base_url: &str, client_id: &str) -> Self {
        let url = format!(
            "{}/ws?clientId={client_id}",
            base_url.replace("http://", "ws://")
        );
        let (stream, _) = connect_async(url).await.unwrap();
        Self { stream }
    }

    pub(crate) async fn send(&mut self, text: &str) {
        self.stream.send(Message::text(text)).await.unwrap();
    }

    /// The next frame; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next())
                .await
                .expect("a frame in time")?;
            match message.ok()? {
                Message::Text(text) => {
                    return Some(Frame::Text(serde_json::from_str(&text).unwrap()));
                }
                Message::Binary(bytes) => return Some(Frame::Binary(bytes.to_vec())),
                _ => {}
            }
        }
    }

    /// All frames up to the one that is wanted, that one included.
    pub(crate) async fn until(&mut self, wanted: impl Fn(&Frame) -> bool) -> Vec<Frame> {
        let mut frames = Vec::new();
        loop {
            let frame = self
                .next()
                .await
                .unwrap_or_else(|| panic!("the socket ended after {frames:#?}"));
            let last = wanted(&frame);
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }

    /// All frames up to the last one of a prompt.
    pub(crate) async fn until_end_of(&mut self, prompt_id: &str) -> Vec<Frame> {
        self.until(|frame| frame.ends(prompt_id)).await
    }

    /// The frames that have arrived up to now: everything that comes before the answer to a ping.
    pub(crate) async fn so_far(&mut self) -> Vec<Frame> {
        self.stream
            .send(Message::Ping(b"so far"[..].into()))
            .await
            .unwrap();
        let mut frames = Vec::new();
        loop {
            let message = tokio::time::timeout(PATIENCE, self.stream.next())
                .await
                .expect("an answer to a ping");
            match message.expect("an open socket").expect("an open socket") {
                Message::Text(text) => {
                    frames.push(Frame::Text(serde_json::from_str(&text).unwrap()));
                }
                Message::Binary(bytes) => frames.push(Frame::Binary(bytes.to_vec())),
                Message::Pong(_) => return frames,
                _ => {}
            }
        }
    }

    /// Reads until the connection ends; whether it ended with a close frame.
    pub(crate) async fn ends_in_order(mut self) -> bool {
        loop {
            match tokio::time::timeout(PATIENCE, self.stream.next())
                .await
                .expect("the connection to end")
            {
                Some(Ok(Message::Close(_))) => return true,
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return false,
            }
        }
    }

    pub(crate) async fn close(mut self) {
        self.stream.close(None).await.unwrap();
        while let Some(Ok(_)) = self.stream.next().await {}
    }
}
