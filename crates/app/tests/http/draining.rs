//! The end of the listener, on real connections.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::num::NonZeroUsize;
use std::time::Duration;

use atelier::http::{Listener, Moments};
use atelier_testkit::build::safetensors_bytes;
use atelier_testkit::{PATIENCE, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::lora_pieces::{created, offset_of};
use crate::sockets::{answer, half_an_upload, statuses};
use crate::support::{API, World, serve};

const ALIVE: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";

/// A world on a real socket.
struct Street {
    world: World,
    listener: Listener,
    address: SocketAddr,
}

impl Street {
    fn new() -> Self {
        let world = World::new();
        let socket = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = socket.local_addr().unwrap();
        let listener = Listener::begin(world.api(), socket, NonZeroUsize::new(1)).unwrap();
        Self {
            world,
            listener,
            address,
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Closes after so many milliseconds, and so on.
fn moments([closing, giving_up, dropping]: [u64; 3]) -> Moments {
    let after = |millis| Instant::now() + Duration::from_millis(millis);
    Moments {
        closing: after(closing),
        giving_up: after(giving_up),
        dropping: after(dropping),
    }
}

/// Reads the head and the body of one answer, on a connection that may go on.
async fn next_answer(stream: &mut TcpStream) -> String {
    let mut text = vec![0; 4_096];
    let read = timeout(PATIENCE, stream.read(&mut text)).await.unwrap();
    String::from_utf8(text[..read.unwrap()].to_vec()).unwrap()
}

#[actix_web::test]
async fn a_server_that_is_about_to_close_answers_each_connection_once_more() {
    let street = Street::new();
    let mut known = street.connect().await;
    known.write_all(ALIVE).await.unwrap();
    let before = next_answer(&mut known).await;
    let mut silent = street.connect().await;
    let address = street.address;

    let draining = street.listener.drain(moments([400, 2_000, 5_000]));
    let asking = async {
        wait_until("the server to know that it stops", PATIENCE, async || {
            street.world.stopping.is_cancelled()
        })
        .await;
        known.write_all(ALIVE).await.unwrap();
        let mut fresh = TcpStream::connect(address).await.unwrap();
        fresh.write_all(ALIVE).await.unwrap();
        // To the end of the connection.
        (answer(&mut known).await, answer(&mut fresh).await)
    };
    let (drained, (known, fresh)) = tokio::join!(draining, asking);

    drained.unwrap();
    assert!(!before.contains("connection: close"), "{before}");
    for answer in [known, fresh] {
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
        assert!(answer.contains("connection: close\r\n"), "{answer}");
    }
    assert_eq!(
        answer(&mut silent).await,
        "",
        "whoever says nothing is hung up on"
    );
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[actix_web::test]
async fn whoever_comes_while_others_are_still_served_is_sent_elsewhere() {
    let street = Street::new();
    let mut upload = street.connect().await;
    upload.write_all(&half_an_upload()).await.unwrap();
    let address = street.address;

    let draining = street.listener.drain(moments([0, 1_500, 5_000]));
    let asking = async {
        let mut last = String::new();
        wait_until("nobody to be let in", PATIENCE, async || {
            let mut late = TcpStream::connect(address).await.unwrap();
            late.write_all(ALIVE).await.unwrap();
            last = answer(&mut late).await;
            !last.starts_with("HTTP/1.1 200 ")
        })
        .await;
        last
    };
    let (drained, told) = tokio::join!(draining, asking);

    drained.unwrap();
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    assert!(told.contains("\r\nretry-after: 1\r\n"), "{told}");
    assert!(told.contains("\"code\":\"unavailable\""), "{told}");
}

#[actix_web::test]
async fn an_upload_that_outlasts_the_server_is_told_and_leaves_nothing() {
    let street = Street::new();
    let mut upload = street.connect().await;
    upload.write_all(&half_an_upload()).await.unwrap();
    wait_until("the upload began", PATIENCE, async || {
        statuses(&street.world).await == ["uploading"]
    })
    .await;
    let begun = Instant::now();

    let draining = street.listener.drain(moments([0, 700, 5_000]));
    let (drained, told) = tokio::join!(draining, answer(&mut upload));

    drained.unwrap();
    assert!(begun.elapsed() < Duration::from_secs(4));
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    assert!(told.contains("\r\nretry-after: 1\r\n"), "{told}");
    assert_eq!(statuses(&street.world).await, ["failed"]);
    assert_eq!(street.world.blobs.keys(), []);
}

#[actix_web::test]
async fn bytes_of_an_upload_in_pieces_outlast_the_server() {
    let street = Street::new();
    let elsewhere = serve(street.world.api()).await;
    let file = safetensors_bytes(1);
    let path = created(&elsewhere, file.len()).await;
    let mut upload = street.connect().await;
    let head = format!(
        "PATCH {API}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\
         Tus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream\r\n\
         Upload-Offset: 0\r\nContent-Length: {}\r\n\r\n",
        file.len(),
    );
    upload.write_all(head.as_bytes()).await.unwrap();
    upload.write_all(&file[..1_000]).await.unwrap();

    let draining = street.listener.drain(moments([0, 1_000, 5_000]));
    let (drained, told) = tokio::join!(draining, answer(&mut upload));

    drained.unwrap();
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    assert!(told.contains("upload-offset: 1000\r\n"), "{told}");
    assert_eq!(offset_of(&elsewhere, &path).await, "1000");
}

#[actix_web::test]
async fn a_body_that_comes_too_late_is_told() {
    let street = Street::new();
    let mut slow = street.connect().await;
    let head = format!(
        "POST {API}/workflows HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\
         Content-Type: application/json\r\nContent-Length: 1000\r\n\r\n{{"
    );
    slow.write_all(head.as_bytes()).await.unwrap();

    let draining = street.listener.drain(moments([0, 700, 5_000]));
    let (drained, told) = tokio::join!(draining, answer(&mut slow));

    drained.unwrap();
    assert!(told.starts_with("HTTP/1.1 503 "), "{told}");
    assert!(told.contains("connection: close\r\n"), "{told}");
}
