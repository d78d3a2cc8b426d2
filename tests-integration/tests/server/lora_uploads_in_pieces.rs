//! Uploads that come in pieces (tus 1.0), over bad lines and across restarts of the server.

use std::time::Duration;

use atelier_testkit::{PATIENCE, wait_until};
use atelier_tests_integration::client::Client;
use atelier_tests_integration::imports;
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::server::Server;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::traces::objects_of;
use atelier_tests_integration::uploads::Upload;
use atelier_tests_integration::workflows::with_lora;
use serde_json::{Value, json};

use crate::house::{ATELIER, house};

const STYLE: &str = "style.safetensors";

/// Cleaning happens every second here, and once a minute at most elsewhere.
const CLEANING: Duration = Duration::from_secs(30);

/// How long a server may take to stop.
const STOP: Duration = Duration::from_secs(30);

/// Ends a server, at once in the middle of a piece or in good order after one, and starts another.
async fn restart(site: &Site, server: &mut Server, upload: &Upload, middle: Option<&[u8]>) {
    if let Some(bytes) = middle {
        let offset = upload.offset().await;
        let line = upload.begin_patch(&server.url, offset, bytes, bytes.len() / 2);
        let _line = line.await;
        server.process.kill();
    } else {
        let status = server.process.terminate(STOP);
        assert!(status.success(), "{status}");
    }
    *server = site.serve();
}

/// Sends a file in so many pieces, with the server restarted after every hundredth part of them.
async fn send(site: &Site, server: &mut Server, file: &LoraFile, pieces: usize) -> Client {
    let size = file.bytes.len().div_ceil(pieces);
    let client = server.client();
    let mut upload = Upload::begin(&client, STYLE, file.bytes.len()).await;
    let (mut offset, mut sent) = (0, 0);
    while offset < file.bytes.len() {
        offset = upload.add(offset, file.piece(offset, size)).await;
        sent += 1;
        if sent % (pieces / 10) == 0 && offset < file.bytes.len() {
            let is_killed = sent % (pieces / 5) == 0;
            let middle = is_killed.then(|| file.piece(offset, size));
            restart(site, server, &upload, middle).await;
            upload = upload.through(&Client::new(&server.url, Some(client.person().clone())));
            let kept = upload.offset().await;
            assert!(
                (offset..=offset + size).contains(&kept),
                "{kept} instead of {offset}"
            );
            offset = kept;
        }
    }
    assert!(sent + 10 >= pieces, "{sent} pieces alone");
    Client::new(&server.url, Some(client.person().clone()))
}

/// There is one LoRA, ready, with the hashes of this file; runs use it, and no piece is left.
async fn assert_arrived(site: &Site, client: &Client, file: &LoraFile) {
    let list = client.get("/loras").await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    let id = list["items"][0]["id"].as_str().expect("an id").to_owned();
    let lora = imports::ready(client, &id).await;
    assert_eq!(lora["filename"], STYLE);
    assert_eq!(lora["source"], json!({"kind": "upload"}));
    assert_eq!(lora["progress"], Value::Null);
    file.assert_is(&lora);
    let content = client.get(&format!("/loras/{id}/content")).await;
    assert!(content.bytes == file.bytes, "other bytes");

    let run = client.run_to_the_end(&with_lora(STYLE)).await;

    assert_eq!(run["status"], "completed", "{run}");
    let folder = format!("user-{}", client.person().id);
    let copy = site.backend.loras.join(folder).join(STYLE);
    assert!(std::fs::read(copy).expect("it is there") == file.bytes);
    wait_until("the pieces to be gone", CLEANING, async || {
        let mut keys = objects_of(site, client.person());
        keys.retain(|key| !key.starts_with("runs/"));
        keys == [format!("loras/{STYLE}")]
    })
    .await;
    let rows = async |table: &str| {
        let rows = format!("select count(*) from {table}");
        site.database.count(&rows).await
    };
    wait_until("the upload to be forgotten", CLEANING, async || {
        rows("comfyui_lora_upload_pieces").await + rows("comfyui_lora_uploads").await == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_pieces_and_nine_restarts_make_one_lora() {
    let site = Site::new(ATELIER).await;
    let mut server = site.serve();
    let file = LoraFile::of_size(1_000_000);

    let client = send(&site, &mut server, &file, 1_000).await;

    assert_arrived(&site, &client, &file).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_may_lie_in_an_s3_server() {
    let site = Site::new(ATELIER).await.on_s3();
    let mut server = site.serve();
    // Larger than what goes to S3 as one object, in pieces of some such parts.
    let file = LoraFile::of_size(40_000_000);

    let client = send(&site, &mut server, &file, 10).await;

    assert_arrived(&site, &client, &file).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_may_be_killed_while_it_puts_the_pieces_together() {
    let site = Site::new(ATELIER).await.on_s3();
    let server = site.serve_without_worker();
    let client = server.client();
    let worker = site
        .setup()
        .with("ATELIER_LEASE_SECONDS", "3")
        .arguments(&["worker"]);
    let file = LoraFile::of_size(300_000);
    let upload = Upload::begin(&client, STYLE, file.bytes.len()).await;
    let half = upload.add(0, file.piece(0, 150_000)).await;
    site.s3_gate().hold_gets(true);
    upload.add(half, file.piece(half, usize::MAX)).await;
    let mut first = worker.spawn();
    let claimed = "select count(*) from comfyui_lora_transfers where claim_token is not null";
    wait_until("a worker to have it", PATIENCE * 3, async || {
        site.database.count(claimed).await == 1
    })
    .await;

    first.kill();
    site.s3_gate().hold_gets(false);
    let _second = worker.spawn();

    assert_arrived(&site, &client, &file).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_a_request_that_broke_off_is_kept() {
    let server = &house().await.server;
    let client = server.client();
    let file = LoraFile::of_size(300_000);
    let upload = Upload::begin(&client, STYLE, file.bytes.len()).await;

    for sent in [100_001, 77_777] {
        let offset = upload.offset().await;
        let rest = file.piece(offset, usize::MAX);
        let line = upload.begin_patch(&server.url, offset, rest, sent).await;
        drop(line);
        wait_until("what came to be kept", PATIENCE, async || {
            upload.offset().await == offset + sent
        })
        .await;
        let lora = client
            .get(&format!("/loras/{}", upload.id()))
            .await
            .expect(200);
        assert_eq!(lora["status"], "uploading");
        assert_eq!(lora["progress"]["bytes_done"], offset + sent);
    }
    let offset = upload.offset().await;
    upload.add(offset, file.piece(offset, usize::MAX)).await;

    let lora = imports::ready(&client, upload.id()).await;
    file.assert_is(&lora);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_send_the_same_piece_one_is_taken() {
    let client = house().await.server.client();
    let file = LoraFile::of_size(300_000);
    let upload = Upload::begin(&client, STYLE, file.bytes.len()).await;
    let mut offset = 0;
    for _ in 0..10 {
        let bytes = file.piece(offset, 30_000);
        let (one, other) = tokio::join!(upload.append(offset, bytes), upload.append(offset, bytes));
        let mut statuses = [one.status.as_u16(), other.status.as_u16()];
        statuses.sort_unstable();
        assert_eq!(statuses, [204, 409], "{} {}", one.text(), other.text());
        offset = upload.offset().await;
    }
    upload.add(offset, file.piece(offset, usize::MAX)).await;

    let lora = imports::ready(&client, upload.id()).await;
    file.assert_is(&lora);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_file_may_come_in_one_piece() {
    let client = house().await.server.client();
    let file = LoraFile::small(1);
    let metadata = [
        ("filename", "cafe\u{301}.safetensors"),
        ("name", "A style"),
        ("description", "For\nhouses"),
        ("tags", "one, two"),
    ];
    let upload = Upload::begin_with(&client, file.bytes.len(), &metadata).await;
    let waiting = client
        .get(&format!("/loras/{}", upload.id()))
        .await
        .expect(200);

    upload.add(0, &file.bytes).await;

    assert_eq!(waiting["status"], "uploading");
    assert_eq!(
        waiting["progress"],
        json!({"bytes_done": 0, "bytes_total": file.bytes.len()})
    );
    let lora = imports::ready(&client, upload.id()).await;
    assert_eq!(lora["filename"], "caf\u{e9}.safetensors");
    assert_eq!(lora["name"], "A style");
    assert_eq!(lora["description"], "For\nhouses");
    assert_eq!(lora["tags"], json!(["one", "two"]));
    file.assert_is(&lora);
    let run = client
        .run_to_the_end(&with_lora("caf\u{e9}.safetensors"))
        .await;
    assert_eq!(run["status"], "completed", "{run}");
}
