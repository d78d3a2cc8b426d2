//! A load generator that costs next to nothing: it shares the processors with what it measures.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::Instant;

/// A request as it goes over the wire, sent again and again on one connection.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    key: Option<Key>,
}

/// Twelve digits in the request that differ each time.
#[derive(Clone, Debug)]
struct Key {
    at: usize,
    first: u64,
    count: u64,
    random: u64,
}

/// Where [`Request::with_key`] puts its digits.
pub(crate) const KEY: &str = "############";

impl Request {
    pub(crate) fn get(path: &str, token: &str) -> Self {
        let text = format!(
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n\r\n"
        );
        Self {
            bytes: text.into_bytes(),
            key: None,
        }
    }

    pub(crate) fn post(path: &str, token: &str, body: &str) -> Self {
        let text = format!(
            "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        Self {
            bytes: text.into_bytes(),
            key: None,
        }
    }

    /// Puts a random number of `count` ones from `first` on where [`KEY`] stands.
    pub(crate) fn with_key(mut self, first: u64, count: u64) -> Self {
        let at = self
            .bytes
            .windows(KEY.len())
            .position(|bytes| bytes == KEY.as_bytes())
            .expect("the path has a key");
        self.key = Some(Key {
            at,
            first,
            count,
            random: first + 0x9e37_79b9_7f4a_7c15,
        });
        self
    }

    /// Chooses the next key (xorshift: as random as it needs to be).
    fn turn(&mut self) {
        let Some(key) = &mut self.key else {
            return;
        };
        key.random ^= key.random << 13;
        key.random ^= key.random >> 7;
        key.random ^= key.random << 17;
        let mut left = key.first + key.random % key.count;
        for place in self.bytes[key.at..key.at + KEY.len()].iter_mut().rev() {
            *place = b'0' + u8::try_from(left % 10).expect("a digit");
            left /= 10;
        }
    }
}

/// Asks on one connection for each request until the time is over, and says how many answers came a second.
///
/// Panics at the first answer that has another status than `expected`.
pub(crate) async fn rate(
    address: SocketAddr,
    requests: Vec<Request>,
    expected: u16,
    time: Duration,
) -> f64 {
    // A thread of its own: nothing else of this process may come between.
    tokio::task::spawn_blocking(move || {
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime")
            .block_on(LocalSet::new().run_until(all(address, requests, expected, time)))
    })
    .await
    .expect("every answer has the status that is expected")
}

async fn all(address: SocketAddr, requests: Vec<Request>, expected: u16, time: Duration) -> f64 {
    let mut connections = Vec::new();
    for request in requests {
        let stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        connections.push((stream, request));
    }
    let begun = Instant::now();
    let mut asking = Vec::new();
    for (stream, request) in connections {
        asking.push(tokio::task::spawn_local(one(
            stream,
            request,
            expected,
            begun + time,
        )));
    }
    let mut answers = 0;
    for one in asking {
        answers += one.await.expect("every answer is as it should be");
    }
    f64::from(answers) / begun.elapsed().as_secs_f64()
}

async fn one(mut stream: TcpStream, mut request: Request, expected: u16, until: Instant) -> u32 {
    let mut answer = Vec::with_capacity(64 * 1024);
    let mut answers = 0;
    while Instant::now() < until {
        request.turn();
        stream
            .write_all(&request.bytes)
            .await
            .expect("the server reads");
        let status = read_answer(&mut stream, &mut answer).await;
        assert_eq!(status, expected, "{}", String::from_utf8_lossy(&answer));
        answers += 1;
    }
    answers
}

/// Reads one answer, which must say how long it is, and gives its status.
async fn read_answer(stream: &mut TcpStream, answer: &mut Vec<u8>) -> u16 {
    answer.clear();
    let head = loop {
        let read = stream.read_buf(answer).await.expect("the server answers");
        assert!(read > 0, "the server closed the connection");
        if let Some(end) = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break end + 4;
        }
    };
    let (status, length) = read_head(&answer[..head]);
    while answer.len() < head + length {
        let read = stream.read_buf(answer).await.expect("the server answers");
        assert!(read > 0, "the server closed the connection");
    }
    status
}

fn read_head(head: &[u8]) -> (u16, usize) {
    let head = std::str::from_utf8(head).expect("heads are ASCII");
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.get(9..12)?.parse().ok());
    let length = lines
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse().ok());
    (
        status.expect("a status"),
        length.expect("an answer says how long it is"),
    )
}
