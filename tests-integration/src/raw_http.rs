//! Requests that no decent client would send.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// How long a server may take to answer and to hang up.
const PATIENCE: Duration = Duration::from_secs(30);

/// What came back.
#[derive(Debug)]
pub struct RawAnswer {
    /// The status.
    pub status: u16,
    /// The head, in lower case.
    pub head: String,
    /// The body, as it came.
    pub body: String,
}

impl RawAnswer {
    /// The problem (RFC 9457) of an answer with this status and code.
    #[track_caller]
    pub fn expect_problem(&self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{self:?}");
        assert!(
            self.head.contains("content-type: application/problem+json"),
            "{self:?}"
        );
        let problem: Value = serde_json::from_str(&self.body).expect("a problem is JSON");
        assert_eq!(problem["code"], code, "{self:?}");
        problem
    }
}

/// Sends these bytes to `server`, such as `http://127.0.0.1:8080`, and reads until it hangs up.
///
/// The server may answer, and hang up, long before everything is sent: that is no fault.
pub async fn exchange(server: &str, request: &[u8]) -> RawAnswer {
    let address = server.trim_start_matches("http://");
    let stream = TcpStream::connect(address).await.expect("it listens");
    let (mut reader, mut writer) = stream.into_split();
    let mut answer = Vec::new();
    let sending = async {
        // Whoever is refused early is cut off in the middle of a write.
        drop(writer.write_all(request).await);
        writer
    };
    let reading = async {
        let mut piece = [0; 4096];
        // A reset after the answer takes nothing away from it.
        while let Ok(count @ 1..) = reader.read(&mut piece).await {
            answer.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    };
    let both = async { drop(tokio::join!(sending, reading)) };
    tokio::time::timeout(PATIENCE, both)
        .await
        .expect("the server hangs up");
    let text = String::from_utf8_lossy(&answer);
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    RawAnswer {
        status: head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .expect("a status"),
        head: head.to_ascii_lowercase(),
        body: body.to_owned(),
    }
}
