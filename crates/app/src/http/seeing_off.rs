//! Whoever connects when nobody is let in any more is told to go elsewhere.
//!
//! A listener that is closed hangs up on everybody who is in its queue, and
//! who is hung up on does not know whether the request was carried out. So the
//! queue is emptied first, to the end.

use std::fmt::Write as _;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use actix_web::HttpResponse;
use actix_web::body::MessageBody as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::problem::Problem;
use super::request_id;

/// How long one of them may take, from the first word to the last.
const PATIENCE: Duration = Duration::from_secs(1);

/// The same once everything else is over.
const LAST_PATIENCE: Duration = Duration::from_millis(200);

/// How many are spoken to at once; the others wait in the queue.
const AT_ONCE: usize = 256;

/// How much of a request is read before it is answered.
const HEAD_BYTES: usize = 16 * 1024;

/// The pause after the system gave no connection, for want of descriptors.
const REFUSED: Duration = Duration::from_millis(20);

/// Answers every connection with 503, until it is ended.
pub(super) struct SeeingOff {
    over: CancellationToken,
    task: JoinHandle<()>,
}

impl SeeingOff {
    /// Begins, with a listener from which nobody else takes connections.
    ///
    /// # Errors
    /// What the system says to the listener.
    pub(super) fn begin(listener: std::net::TcpListener, api: &Api) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let id = api.ports().ids.new_id();
        let mut response = Problem::server_stops().to_response(Some(id));
        request_id::add_headers(response.headers_mut(), id);
        let last_word = LastWord::new(response)?;
        let over = CancellationToken::new();
        let listener = TcpListener::from_std(listener)?;
        let task = see_off(listener, Arc::new(last_word), over.clone());
        Ok(Self {
            over,
            task: api.io().spawn(task),
        })
    }

    /// Closes the listener.
    pub(super) async fn end(self) {
        self.over.cancel();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "whoever came last was hung up on");
        }
    }
}

async fn see_off(listener: TcpListener, last_word: Arc<LastWord>, over: CancellationToken) {
    let mut guests = JoinSet::new();
    loop {
        tokio::select! {
            biased;
            () = over.cancelled() => break,
            Some(_gone) = guests.join_next() => {}
            accepted = listener.accept(), if guests.len() < AT_ONCE => match accepted {
                Ok((guest, _address)) => {
                    guests.spawn(Arc::clone(&last_word).tell(guest));
                }
                Err(error) => {
                    tracing::debug!(%error, "a connection could not be taken");
                    sleep(REFUSED).await;
                }
            },
        }
    }
    if let Err(error) = empty(listener, &mut guests, &last_word) {
        tracing::debug!(%error, "the listener could not be emptied");
    }
    // Those who are left have got their answer, or say nothing.
    drop(timeout(LAST_PATIENCE, guests.join_all()).await);
}

/// Takes whoever is still there, and closes the listener as soon as nobody is.
fn empty(
    listener: TcpListener,
    guests: &mut JoinSet<()>,
    last_word: &Arc<LastWord>,
) -> io::Result<()> {
    let listener = listener.into_std()?;
    loop {
        match listener.accept() {
            Ok((guest, _address)) => {
                guest.set_nonblocking(true)?;
                let guest = TcpStream::from_std(guest)?;
                guests.spawn(Arc::clone(last_word).tell(guest));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

/// The answer to everybody, as it goes over the wire.
struct LastWord {
    head: Vec<u8>,
    body: Vec<u8>,
}

impl LastWord {
    fn new(response: HttpResponse) -> io::Result<Self> {
        let (response, body) = response.into_parts();
        let body = body
            .try_into_bytes()
            .map_err(|_stream| io::Error::other("a problem is no stream"))?;
        let status = response.status();
        let mut head = format!("HTTP/1.1 {status}\r\n");
        for (name, value) in response.headers() {
            if let Ok(value) = value.to_str() {
                // Writing to a string cannot fail.
                let _infallible = write!(head, "{name}: {value}\r\n");
            }
        }
        let _infallible = write!(
            head,
            "connection: close\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        Ok(Self {
            head: head.into_bytes(),
            body: body.to_vec(),
        })
    }

    async fn tell(self: Arc<Self>, mut guest: TcpStream) {
        // Whoever is gone need not be told.
        drop(timeout(PATIENCE, self.answer(&mut guest)).await);
    }

    async fn answer(&self, guest: &mut TcpStream) -> io::Result<()> {
        let mut request = Vec::new();
        while !has_head(&request) {
            if guest.read_buf(&mut request).await? == 0 {
                // Said nothing, or went away in the middle of it.
                return Ok(());
            }
        }
        guest.write_all(&self.head).await?;
        if !request.starts_with(b"HEAD ") {
            guest.write_all(&self.body).await?;
        }
        guest.shutdown().await?;
        // With bytes unread, hanging up would take the answer away again.
        tokio::io::copy(guest, &mut tokio::io::sink()).await?;
        Ok(())
    }
}

fn has_head(request: &[u8]) -> bool {
    request.len() >= HEAD_BYTES || request.windows(4).any(|end| end == b"\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn server() -> (String, CancellationToken, JoinHandle<()>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let last_word = LastWord::new(Problem::server_stops().to_response(None));
        let last_word = Arc::new(last_word.expect("a problem is bytes"));
        let over = CancellationToken::new();
        let task = tokio::spawn(see_off(listener, last_word, over.clone()));
        (address, over, task)
    }

    async fn ask(guest: &mut TcpStream, request: &str) -> String {
        guest.write_all(request.as_bytes()).await.expect("it reads");
        let mut answer = String::new();
        guest.read_to_string(&mut answer).await.expect("it answers");
        answer
    }

    #[tokio::test]
    async fn everybody_is_told_when_and_where_to_try_again() {
        let (address, _over, _task) = server().await;

        let mut guest = TcpStream::connect(&address).await.expect("it listens");
        let answer = ask(
            &mut guest,
            "POST / HTTP/1.1\r\ncontent-length: 9\r\n\r\n123",
        )
        .await;
        let mut guest = TcpStream::connect(&address).await.expect("it listens");
        let without_body = ask(&mut guest, "HEAD / HTTP/1.1\r\n\r\n").await;

        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(head.starts_with("HTTP/1.1 503 Service Unavailable\r\n"));
        for header in [
            "\r\nretry-after: 1",
            "\r\nconnection: close",
            "\r\ncontent-type: application/problem+json",
        ] {
            assert!(head.contains(header), "{head}");
        }
        let problem: serde_json::Value = serde_json::from_str(body).expect("it is JSON");
        assert_eq!(problem["code"], "unavailable");
        assert_eq!(without_body, format!("{head}\r\n\r\n"));
    }

    #[tokio::test]
    async fn whoever_waits_at_the_door_when_it_closes_is_told_too() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.set_nonblocking(true).expect("it is a socket");
        let address = listener.local_addr().expect("an address");
        let mut guests = Vec::new();
        for _ in 0..20 {
            guests.push(TcpStream::connect(address).await.expect("it listens"));
        }
        let last_word = LastWord::new(Problem::server_stops().to_response(None));
        let over = CancellationToken::new();
        over.cancel();

        let listener = TcpListener::from_std(listener).expect("it is a socket");
        let last_word = Arc::new(last_word.expect("a problem is bytes"));
        let task = tokio::spawn(see_off(listener, last_word, over));

        for guest in &mut guests {
            let answer = ask(guest, "GET / HTTP/1.1\r\n\r\n").await;
            assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
        }
        task.await.expect("it does not panic");
        let refused = TcpStream::connect(address).await.expect_err("it is closed");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }
}
