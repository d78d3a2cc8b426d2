//! A client's connection, which ends well when the server stops.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use actix_web::rt::net::TcpStream;
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// How the answer begins that is none yet.
const GO_ON: &[u8] = b"HTTP/1.1 100 ";

/// A connection on which, from some moment on, no further request is waited
/// for.
///
/// Then it reads as if the client had said its last word, but only where that
/// takes nothing away: every request that was read has been answered at least
/// in part, and no byte of another one is here. Whoever simply closed idle
/// connections would lose the requests that had just arrived.
pub(super) struct Connection {
    io: TcpStream,
    no_more: Pin<Box<WaitForCancellationFutureOwned>>,
    is_last: bool,
    owes_answer: bool,
}

impl Connection {
    /// Waits for no further request once `no_more` is cancelled.
    pub(super) fn new(io: TcpStream, no_more: CancellationToken) -> Self {
        Self {
            io,
            no_more: Box::pin(no_more.cancelled_owned()),
            is_last: false,
            owes_answer: false,
        }
    }

    /// Whether nothing more is to be read. If not, the task is woken when it is.
    fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        if !self.is_last {
            self.is_last = self.no_more.as_mut().poll(context).is_ready();
        }
        self.is_last && !self.owes_answer && is_silent(&self.io)
    }

    fn note_written(&mut self, bytes: &[u8]) {
        if !bytes.starts_with(GO_ON) {
            self.owes_answer = false;
        }
    }
}

/// Whether nothing has come that is not read, by the kernel's own word: what
/// the runtime knows of it may be a little old.
fn is_silent(io: &TcpStream) -> bool {
    let peeked = recv(io, &mut [0_u8; 1], RecvFlags::PEEK | RecvFlags::DONTWAIT);
    matches!(peeked, Err(Errno::AGAIN))
}

impl AsyncRead for Connection {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.io).poll_read(context, buffer);
        this.owes_answer |= buffer.filled().len() > before;
        if read.is_pending() && this.is_over(context) {
            return Poll::Ready(Ok(()));
        }
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.note_written(bytes);
        Pin::new(&mut this.io).poll_write(context, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_flush(context)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().io).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    async fn pair() -> (TcpStream, Connection, CancellationToken) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let client = TcpStream::connect(address).await.expect("it listens");
        let (io, _) = listener.accept().await.expect("somebody comes");
        let no_more = CancellationToken::new();
        (client, Connection::new(io, no_more.clone()), no_more)
    }

    async fn read(server: &mut Connection) -> usize {
        server.read(&mut [0; 64]).await.expect("it is there")
    }

    #[tokio::test]
    async fn an_idle_connection_ends_when_it_is_told_to() {
        let (_client, mut server, no_more) = pair().await;

        let (read, ()) = tokio::join!(read(&mut server), async { no_more.cancel() });

        assert_eq!(read, 0);
    }

    #[tokio::test]
    async fn what_has_arrived_is_read_all_the_same() {
        let (mut client, mut server, no_more) = pair().await;
        client.write_all(b"GET /").await.expect("it is there");
        no_more.cancel();

        assert_eq!(read(&mut server).await, 5);
        let rest = async { client.write_all(b" HTTP/1.1").await };
        let (read_later, written) = tokio::join!(read(&mut server), rest);
        written.expect("it is there");
        assert_eq!(read_later, 9, "nothing is answered yet");
        server
            .write_all(b"HTTP/1.1 200 OK")
            .await
            .expect("it is there");
        assert_eq!(read(&mut server).await, 0);
    }

    #[tokio::test]
    async fn whoever_is_told_to_go_on_is_waited_for() {
        let (mut client, mut server, no_more) = pair().await;
        client.write_all(b"POST /").await.expect("it is there");
        assert_eq!(read(&mut server).await, 6);
        let go_on = b"HTTP/1.1 100 Continue\r\n\r\n";
        server.write_all(go_on).await.expect("it is there");
        no_more.cancel();

        let body = async { client.write_all(b"body").await };
        let (read, written) = tokio::join!(read(&mut server), body);

        written.expect("it is there");
        assert_eq!(read, 4);
    }
}
