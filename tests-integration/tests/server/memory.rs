//! How much memory files take on their way through the server.

use std::time::Duration;

use atelier_testkit::drive_double::{Content, DriveDouble, DriveFile};
use atelier_tests_integration::client::Client;
use atelier_tests_integration::imports::{self, new_id, with_drive};
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::server::Server;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::uploads::{Upload, offset_of};
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

const LARGE: &str = "large.safetensors";

/// Every byte of the data.
const BYTE: u8 = 0x5a;

/// What comes before the data.
fn start() -> Bytes {
    let header = json!({"weights": {"dtype": "U8", "shape": [SIZE], "data_offsets": [0, SIZE]}});
    let header = header.to_string();
    let mut start = (header.len() as u64).to_le_bytes().to_vec();
    start.extend(header.bytes());
    start.into()
}

/// A safetensors file with one tensor of so many bytes, never whole in memory.
fn large_file() -> (u64, Body) {
    let start = start();
    let length = start.len() as u64 + SIZE;
    (length, body(start, SIZE / MIB))
}

/// Some bytes, and so many MiB of data.
fn body(start: Bytes, mebibytes: u64) -> Body {
    let block = Bytes::from(vec![BYTE; 1024 * 1024]);
    let blocks = std::iter::once(start)
        .chain((0..mebibytes).map(move |_| block.clone()))
        .map(Ok::<_, std::io::Error>);
    Body::wrap_stream(stream::iter(blocks))
}

/// A server with its objects in S3, and a Drive.
struct Scene {
    site: Site,
    drive: DriveDouble,
    server: Server,
    client: Client,
    before_kib: u64,
}

impl Scene {
    /// Everything has been used once: connections, caches, code.
    async fn warm() -> Self {
        let site = Site::new(ATELIER).await.on_s3();
        let drive = DriveDouble::start().expect("there is a free port");
        // As in the image: what threads freed is not kept by each of them.
        let setup = site.setup().with("MALLOC_ARENA_MAX", "2");
        let server = with_drive(setup, &drive).start();
        let client = server.client();
        client.add_lora("small.safetensors", 1).await;
        let small = LoraFile::small(2);
        let id = imports::put(&drive, "imported.safetensors", &small);
        let imported = imports::begin(&client, &id).await;
        imports::ready(&client, &imported).await;
        let upload = Upload::begin(&client, "pieces.safetensors", small.bytes.len()).await;
        upload.add(0, &small.bytes).await;
        imports::ready(&client, upload.id()).await;
        let warm = client.run_to_the_end(&with_lora("small.safetensors")).await;
        assert_eq!(warm["status"], "completed", "{warm}");
        client.run_to_the_end(&without_models(1)).await;
        let before_kib = server.process.peak_memory_kib();
        Self {
            site,
            drive,
            server,
            client,
            before_kib,
        }
    }

    /// Runs a workflow with the large file, and looks at the peak.
    async fn assert_held_little(&self, way: &str) {
        let taken_in = self.server.process.peak_memory_kib();
        let run = self.client.run_to_the_end(&with_lora(LARGE)).await;
        assert_eq!(run["status"], "completed", "{run}");
        let synced = self.server.process.peak_memory_kib();

        let user = self.client.person().id;
        let copy = self.site.backend.loras.join(format!("user-{user}/{LARGE}"));
        let (length, _) = large_file();
        assert_eq!(std::fs::metadata(copy).expect("it is there").len(), length);
        let before = self.before_kib;
        assert!(
            synced - before <= ALLOWED_KIB,
            "the peak grew from {before} KiB to {taken_in} KiB by the {way} and to {synced} KiB by \
             the run"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_lora_is_never_held_in_memory() {
    let scene = Scene::warm().await;

    let (length, body) = large_file();
    let file = Part::stream_with_length(body, length).file_name(LARGE);
    let request = scene
        .client
        .request(Method::POST, "/loras")
        .timeout(Duration::from_mins(5))
        .multipart(Form::new().part("file", file));
    let lora = scene.client.send(request).await.expect(201);

    assert_eq!(lora["file_size"], length);
    scene.assert_held_little("upload").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_import_is_never_held_in_memory() {
    let scene = Scene::warm().await;
    let start = start();
    let length = start.len() as u64 + SIZE;
    let content = Content::generated(length, move |offset, buffer| {
        buffer.fill(BYTE);
        let begin = usize::try_from(offset).unwrap_or(usize::MAX);
        let head = start.get(begin..).unwrap_or_default();
        let count = head.len().min(buffer.len());
        buffer[..count].copy_from_slice(&head[..count]);
    });
    let id = new_id();
    scene.drive.put(DriveFile::blob(&id, LARGE, content));

    let lora = imports::begin(&scene.client, &id).await;

    let lora = imports::ready(&scene.client, &lora).await;
    assert_eq!(lora["file_size"], length);
    scene.assert_held_little("import").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_upload_in_pieces_is_never_held_in_memory() {
    const REQUESTS: u64 = 4;
    let scene = Scene::warm().await;
    let (length, _) = large_file();
    let length = usize::try_from(length).expect("a length that fits");
    let upload = Upload::begin(&scene.client, LARGE, length).await;
    let mut offset = 0;
    for number in 0..REQUESTS {
        let start = if number == 0 { start() } else { Bytes::new() };
        let request = upload
            .request(Method::PATCH)
            .timeout(Duration::from_mins(5))
            .header("content-type", "application/offset+octet-stream")
            .header("upload-offset", offset)
            .body(body(start, SIZE / MIB / REQUESTS));
        let answer = scene.client.send(request).await;
        assert_eq!(answer.status, 204, "{}", answer.text());
        offset = offset_of(&answer);
    }

    assert_eq!(offset, length);
    let lora = imports::ready(&scene.client, upload.id()).await;
    assert_eq!(lora["file_size"], length);
    scene.assert_held_little("upload in pieces").await;
}
