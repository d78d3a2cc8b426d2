//! What only shows on a real connection.

use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::time::Duration;

use atelier::http::Listener;
use atelier_testkit::build::safetensors_bytes;
use atelier_testkit::{PATIENCE, wait_until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::lora_pieces::{created, offset_of};
use crate::support::{API, World};

/// Serves a world on a real socket for as long as the test lasts.
async fn connect(world: &World) -> TcpStream {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    // Dropped, it goes on to the end of the runtime.
    let _listener = Listener::begin(world.api(), listener, NonZeroUsize::new(1)).unwrap();
    TcpStream::connect(address).await.unwrap()
}

pub(crate) async fn answer(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let reading = stream.read_to_end(&mut answer);
    tokio::time::timeout(PATIENCE, reading)
        .await
        .expect("an answer in time")
        .unwrap();
    String::from_utf8(answer).unwrap()
}

/// The beginning of an upload of a good file, up to the middle of the file.
pub(crate) fn half_an_upload() -> Vec<u8> {
    let mut request = format!(
        "POST {API}/loras HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 50000\r\n\r\n\
         --b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.safetensors\"\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(&safetensors_bytes(1)[..3_000]);
    request
}

pub(crate) async fn statuses(world: &World) -> Vec<&'static str> {
    use atelier_domain::lora::LoraFilter;
    use atelier_domain::page::PageRequest;
    use atelier_domain::ports::LoraRepo as _;

    let loras = world.store.loras();
    let page = loras
        .list(&world.alice, LoraFilter::default(), PageRequest::default())
        .await
        .unwrap();
    page.items.iter().map(|lora| lora.status.as_str()).collect()
}

#[actix_web::test]
async fn an_upload_whose_sender_is_gone_is_given_up() {
    let world = World::new();
    let mut stream = connect(&world).await;
    stream.write_all(&half_an_upload()).await.unwrap();
    wait_until("the upload began", PATIENCE, async || {
        statuses(&world).await == ["uploading"]
    })
    .await;

    drop(stream);

    wait_until("the upload is given up", PATIENCE, async || {
        statuses(&world).await == ["failed"]
    })
    .await;
    assert_eq!(world.blobs.keys(), []);
}

#[actix_web::test]
async fn an_upload_that_stands_still_is_408_and_given_up() {
    let mut world = World::new();
    world.limits.chunk_wait = Duration::from_millis(50);
    let mut stream = connect(&world).await;
    stream.write_all(&half_an_upload()).await.unwrap();

    let mut answer = vec![0; 4_096];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer))
        .await
        .unwrap()
        .unwrap();

    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("\"code\":\"request-timeout\""), "{answer}");
    wait_until("the upload is given up", PATIENCE, async || {
        statuses(&world).await == ["failed"]
    })
    .await;
}

#[actix_web::test]
async fn head_has_the_headers_of_get_and_no_body() {
    let world = World::new();
    let mut stream = connect(&world).await;
    let request = "HEAD /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    stream.write_all(request.as_bytes()).await.unwrap();

    let answer = answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("content-length: 15\r\n"), "{answer}");
    assert!(answer.ends_with("\r\n\r\n"), "{answer}");
}

#[actix_web::test]
async fn a_body_that_says_it_is_too_large_is_refused_before_it_is_sent() {
    let world = World::new();
    let mut stream = connect(&world).await;
    let request = format!(
        "POST {API}/loras HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer alice\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 99999999999\r\n\r\n"
    );

    stream.write_all(request.as_bytes()).await.unwrap();

    let answer = answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("application/problem+json"), "{answer}");
}

#[actix_web::test]
async fn whoever_asks_is_not_told_to_send_what_is_too_large() {
    let world = World::new();
    let ask = async |path: &str, length: u64| {
        let mut stream = connect(&world).await;
        let request = format!(
            "POST {API}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\
             Expect: 100-continue\r\nContent-Type: multipart/form-data; boundary=b\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream
    };

    for path in ["/loras", "/loras/uploads"] {
        let refused = answer(&mut ask(path, 99_999_999_999).await).await;
        assert!(refused.starts_with("HTTP/1.1 413 "), "{refused}");
        assert!(
            refused.contains("\"code\":\"payload-too-large\""),
            "{refused}"
        );
        assert!(refused.contains("x-request-id: "), "{refused}");
    }
    let mut told = [0; 25];
    let mut stream = ask("/loras", 50_000).await;
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut told))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(&told, b"HTTP/1.1 100 Continue\r\n\r\n");
}

#[actix_web::test]
async fn a_path_that_climbs_leads_nowhere_and_the_connection_goes_on() {
    let world = World::new();
    let mut stream = connect(&world).await;
    let request = "GET /docs/../../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

    stream.write_all(request.as_bytes()).await.unwrap();

    let answer = answer(&mut stream).await;
    assert!(answer.starts_with("HTTP/1.1 404 "), "{answer}");
    assert!(answer.contains("\r\n\r\n{\"status\":\"ok\"}"), "{answer}");
}

#[actix_web::test]
async fn whoever_is_refused_in_the_middle_of_a_large_upload_reads_why() {
    let mut world = World::new();
    world.limits.lora_bytes = 1 << 30;
    let mut stream = connect(&world).await;
    let body_bytes = 8 * 1024 * 1024;
    let head = format!(
        "POST {API}/loras HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\
         Content-Type: multipart/form-data; boundary=b\r\nContent-Length: {body_bytes}\r\n\r\n"
    );
    let mut body =
        b"--b\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a.safetensors\"\r\n\r\n"
            .to_vec();
    body.resize(body_bytes, 0x80);

    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.split();
    let send = async {
        // The server may stop reading whenever it has answered.
        drop(writing.write_all(&body).await);
    };
    let mut answer = vec![0; 4_096];
    let read = async {
        tokio::time::timeout(PATIENCE, reading.read(&mut answer))
            .await
            .unwrap()
            .unwrap()
    };
    send.await;
    let read = read.await;

    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 422 "), "{answer}");
    assert!(answer.contains("\"pointer\":\"/file\""), "{answer}");
}

/// A request that says it adds 5 000 bytes to an upload, and brings the first
/// 700 of a good file.
fn part_of_a_piece(path: &str) -> Vec<u8> {
    let mut request = format!(
        "PATCH {API}{path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\
         Tus-Resumable: 1.0.0\r\nUpload-Offset: 0\r\nContent-Length: 5000\r\n\
         Content-Type: application/offset+octet-stream\r\n\r\n"
    )
    .into_bytes();
    request.extend_from_slice(&safetensors_bytes(1)[..700]);
    request
}

#[actix_web::test]
async fn bytes_of_an_upload_are_kept_though_the_line_breaks() {
    let world = World::new();
    let server = world.server().await;
    let path = created(&server, safetensors_bytes(1).len()).await;
    let mut stream = connect(&world).await;
    stream.write_all(&part_of_a_piece(&path)).await.unwrap();
    stream.flush().await.unwrap();

    drop(stream);

    wait_until("the bytes are kept", PATIENCE, async || {
        offset_of(&server, &path).await == "700"
    })
    .await;
}

#[actix_web::test]
async fn bytes_of_an_upload_are_kept_though_the_rest_never_comes() {
    let mut world = World::new();
    world.limits.chunk_wait = Duration::from_millis(50);
    let server = world.server().await;
    let path = created(&server, safetensors_bytes(1).len()).await;
    let mut stream = connect(&world).await;
    stream.write_all(&part_of_a_piece(&path)).await.unwrap();

    let mut answer = vec![0; 4_096];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer))
        .await
        .unwrap()
        .unwrap();

    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains("upload-offset: 700\r\n"), "{answer}");
    assert_eq!(offset_of(&server, &path).await, "700");
}
