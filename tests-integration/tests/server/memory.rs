//! How much memory files take on their way through the server.

use std::time::Duration;

use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::{with_lora, without_models};
use bytes::Bytes;
use futures_util::stream;
use reqwest::multipart::{Form, Part};
use reqwest::{Body, Method};
use serde_json::json;

use crate::house::ATELIER;

const MIB: u64 = 1024 * 1024;

/// The data of the file; a debug build hashes it at some tens of MiB a second.
const SIZE: u64 = 128 * MIB;

/// What may be held of all transfers at a time.
const ALLOWED_KIB: u64 = 64 * 1024;

/// A safetensors file with one tensor of so many bytes, never whole in memory.
fn large_file() -> (u64, Body) {
    let header = json!({"weights": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}});
    let header = header.to_string();
    let mut start = (header.len() as u64).to_le_bytes().to_vec();
    start.extend(header.bytes());
    let length = start.len() as u64 + SIZE;
    let block = Bytes::from(vec![0x5a; 1024 * 1024]);
    let blocks = std::iter::once(Bytes::from(start))
        .chain((0..SIZE / MIB).map(move |_| block.clone()))
        .map(Ok::<_, std::io::Error>);
    (length, Body::wrap_stream(stream::iter(blocks)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_lora_is_never_held_in_memory() {
    let site = Site::new(ATELIER).await.on_s3();
    let server = site.serve();
    let client = server.client();
    // Everything has been used once: connections, caches, code.
    client.add_lora("small.safetensors", 1).await;
    let warm = client.run_to_the_end(&with_lora("small.safetensors")).await;
    assert_eq!(warm["status"], "completed", "{warm}");
    client.run_to_the_end(&without_models(1)).await;
    let before = server.process.peak_memory_kib();

    let (length, body) = large_file();
    let file = Part::stream_with_length(body, length).file_name("large.safetensors");
    let request = client
        .request(Method::POST, "/loras")
        .timeout(Duration::from_mins(5))
        .multipart(Form::new().part("file", file));
    let lora = client.send(request).await.expect(201);
    assert_eq!(lora["file_size"], length);
    let uploaded = server.process.peak_memory_kib();
    let run = client.run_to_the_end(&with_lora("large.safetensors")).await;
    assert_eq!(run["status"], "completed", "{run}");
    let synced = server.process.peak_memory_kib();

    let user = client.person().id;
    let copy = site
        .backend
        .loras
        .join(format!("user-{user}/large.safetensors"));
    assert_eq!(std::fs::metadata(copy).expect("it is there").len(), length);
    assert!(
        synced - before <= ALLOWED_KIB,
        "the peak grew from {before} KiB to {uploaded} KiB by the upload and to {synced} KiB by \
         the run"
    );
}
