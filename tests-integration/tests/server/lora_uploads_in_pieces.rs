//! Uploads that come in pieces (tus 1.0), over bad lines and across restarts of the server.

use std::time::Duration;

use atelier_testkit::{PATIENCE, wait_until};
use atelier_tests_integration::client::Client;
use atelier_tests_integration::imports;
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::server::Server;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::traces::objects_of;
use atelier_tests_integration::uploads::{self, Upload, offset_of};
use atelier_tests_integration::workflows::with_lora;
use reqwest::Method;
use serde_json::{Value, json};

use crate::house::{ATELIER, house};

const STYLE: &str = "style.safetensors";

/// Cleaning happens every second here, and once a minute at most elsewhere.
const CLEANING: Duration = Duration::from_secs(30);

/// How long a server may take to stop.
const STOP: Duration = Duration::from_secs(30);

/// The bytes from an offset on, at most so many.
fn piece(file: &LoraFile, offset: usize, size: usize) -> &[u8] {
    let rest = file.bytes.get(offset..).expect("within the file");
    rest.get(..size).unwrap_or(rest)
}

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
        offset = upload.add(offset, piece(file, offset, size)).await;
        sent += 1;
        if sent % (pieces / 10) == 0 && offset < file.bytes.len() {
            let is_killed = sent % (pieces / 5) == 0;
            let middle = is_killed.then(|| piece(file, offset, size));
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
    assert_eq!(lora["file_size"], file.bytes.len());
    assert_eq!(lora["source"], json!({"kind": "upload"}));
    assert_eq!(lora["progress"], Value::Null);
    assert_hashes(&lora, file);
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

#[track_caller]
fn assert_hashes(lora: &Value, file: &LoraFile) {
    assert_eq!(lora["sha256"], file.sha256(), "{lora}");
    assert_eq!(lora["hashes"], file.hashes(), "{lora}");
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
    assert_hashes(&lora, &file);
    let run = client
        .run_to_the_end(&with_lora("caf\u{e9}.safetensors"))
        .await;
    assert_eq!(run["status"], "completed", "{run}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_came_of_a_request_that_broke_off_is_kept() {
    let server = &house().await.server;
    let client = server.client();
    let file = LoraFile::of_size(300_000);
    let upload = Upload::begin(&client, STYLE, file.bytes.len()).await;

    for sent in [100_001, 77_777] {
        let offset = upload.offset().await;
        let rest = piece(&file, offset, usize::MAX);
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
    upload.add(offset, piece(&file, offset, usize::MAX)).await;

    let lora = imports::ready(&client, upload.id()).await;
    assert_hashes(&lora, &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_out_of_place_change_nothing() {
    let client = house().await.server.client();
    let file = LoraFile::small(1);
    let length = file.bytes.len();
    let upload = Upload::begin(&client, STYLE, length).await;
    upload.add(0, piece(&file, 0, 1_000)).await;

    for offset in [0, 999, 1_001, length] {
        let refused = upload.append(offset, piece(&file, 1_000, 10)).await;
        assert_eq!(offset_of(&refused), 1_000);
        refused.expect_problem(409, "upload-offset-mismatch");
    }
    let mut too_long = piece(&file, 1_000, usize::MAX).to_vec();
    too_long.push(0);
    upload
        .append(1_000, &too_long)
        .await
        .expect_problem(413, "payload-too-large");

    assert_eq!(upload.offset().await, 1_000);
    upload.add(1_000, piece(&file, 1_000, usize::MAX)).await;
    upload
        .append(length, b"more")
        .await
        .expect_problem(409, "upload-complete");
    let lora = imports::ready(&client, upload.id()).await;
    assert_hashes(&lora, &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_another_protocol_are_refused() {
    let client = house().await.server.client();
    let file = LoraFile::small(1);
    let upload = Upload::begin(&client, STYLE, file.bytes.len()).await;

    for version in [None, Some("0.2.2"), Some("2.0.0")] {
        for (method, path) in [
            (Method::POST, "/api/v1/comfyui/loras/uploads"),
            (Method::HEAD, upload.path.as_str()),
            (Method::PATCH, upload.path.as_str()),
            (Method::DELETE, upload.path.as_str()),
        ] {
            let mut request = client.at(method.clone(), path);
            if let Some(version) = version {
                request = request.header("tus-resumable", version);
            }
            let answer = client.send(request).await;
            assert_eq!(answer.status, 412, "{method} {version:?}");
            assert_eq!(answer.header("tus-version"), "1.0.0");
        }
    }
    let other_type = upload
        .request(Method::PATCH)
        .header("content-type", "application/octet-stream")
        .header("upload-offset", 0)
        .body(file.bytes.clone());
    client
        .send(other_type)
        .await
        .expect_problem(415, "unsupported-media-type");

    assert_eq!(upload.offset().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_is_told_to_whoever_asks() {
    let server = &house().await.server;
    let client = server.client();
    let file = LoraFile::small(1);

    let anonymous = server.anonymous();
    let options = anonymous
        .send(anonymous.request(Method::OPTIONS, "/loras/uploads"))
        .await;
    let created = uploads::create(&client, file.bytes.len(), &[("filename", STYLE)]).await;
    let upload = Upload::begin(&client, "other.safetensors", file.bytes.len()).await;
    upload.add(0, piece(&file, 0, 100)).await;
    let head = upload.head().await;

    assert_eq!(options.status, 204, "{}", options.text());
    assert_eq!(options.header("tus-version"), "1.0.0");
    let extensions: Vec<&str> = options.header("tus-extension").split(',').collect();
    for extension in ["creation", "expiration", "termination"] {
        assert!(extensions.contains(&extension), "{extensions:?}");
    }
    assert_eq!(options.header("tus-max-size"), (8_u64 << 30).to_string());
    assert_eq!(created.header("tus-resumable"), "1.0.0");
    assert!(created.header("upload-expires").ends_with("GMT"));
    assert_eq!(head.header("tus-resumable"), "1.0.0");
    assert_eq!(head.header("upload-offset"), "100");
    assert_eq!(head.header("upload-length"), file.bytes.len().to_string());
    assert_eq!(head.header("cache-control"), "no-store");
    // "other.safetensors"
    assert_eq!(
        head.header("upload-metadata"),
        "filename b3RoZXIuc2FmZXRlbnNvcnM="
    );
    assert!(head.header("upload-expires").ends_with("GMT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_is_there_for_nobody_else() {
    let server = &house().await.server;
    let (client, stranger) = (server.client(), server.client());
    let file = LoraFile::small(1);
    let upload = Upload::begin(&client, STYLE, file.bytes.len()).await;
    upload.add(0, piece(&file, 0, 1_000)).await;
    let seen = upload.through(&stranger);
    let mut nowhere = seen.clone();
    nowhere.path = upload
        .path
        .replace(upload.id(), "0a000000-0000-7000-8000-000000000001");

    for absent in [seen, nowhere] {
        assert_eq!(absent.head().await.status, 404);
        absent
            .append(1_000, piece(&file, 1_000, usize::MAX))
            .await
            .expect_problem(404, "upload-not-found");
        absent
            .terminate()
            .await
            .expect_problem(404, "upload-not-found");
    }

    assert_eq!(upload.offset().await, 1_000);
    // A filename is each person's own.
    Upload::begin(&stranger, STYLE, file.bytes.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_lora_is_refused_with_its_first_piece() {
    let house = house().await;
    let client = house.server.client();
    let mut cut_short = LoraFile::small(1).bytes;
    cut_short.truncate(4_000);
    let mut pickle = b"\x80\x02}q\x00X\x05\x00\x00\x00stateq\x01s.".to_vec();
    pickle.resize(4_000, b'.');
    for (what, bytes, says) in [
        ("a pickle", pickle, "pickle"),
        ("a zip file", [b"PK\x03\x04".repeat(1_000)].concat(), "zip"),
        ("a file cut short", cut_short, "cut short"),
    ] {
        let upload = Upload::begin(&client, STYLE, bytes.len()).await;

        let problem = upload
            .append(0, bytes.get(..3_000).expect("a part"))
            .await
            .expect_problem(422, "validation");

        let detail = problem["errors"][0]["detail"].as_str().expect("a detail");
        assert!(detail.contains(says), "{what}: {problem}");
        assert_eq!(upload.head().await.status, 410, "{what}");
        let rest = bytes.get(3_000..).expect("the rest");
        upload
            .append(3_000, rest)
            .await
            .expect_problem(410, "upload-gone");
        let lora = client
            .get(&format!("/loras/{}", upload.id()))
            .await
            .expect(200);
        assert_eq!(lora["status"], "failed");
        assert_eq!(lora["error"]["code"], "not_safetensors", "{lora}");
    }
    assert_eq!(
        objects_of(&house.site, client.person()),
        Vec::<String>::new()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_file_that_is_no_lora_fails_once_it_is_put_together() {
    let house = house().await;
    let client = house.server.client();
    let file = LoraFile::small(1);
    // The header comes in two pieces, so that no single one shows what is wrong.
    let mut broken = file.bytes.clone();
    let quote = broken.iter().rposition(|byte| *byte == b'}');
    *broken
        .get_mut(quote.expect("a header has one"))
        .expect("within the file") = b'(';
    let upload = Upload::begin(&client, STYLE, broken.len()).await;
    let (first, second) = broken.split_at(100);

    upload.add(0, first).await;
    upload.append(100, second).await;

    let lora = imports::settled(&client, upload.id()).await;
    assert_eq!(lora["status"], "failed", "{lora}");
    assert_eq!(lora["error"]["code"], "not_safetensors", "{lora}");
    wait_until("every object to be gone", CLEANING, async || {
        objects_of(&house.site, client.person()).is_empty()
    })
    .await;
    Upload::begin(&client, STYLE, broken.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_given_up_leaves_nothing() {
    let house = house().await;
    let client = house.server.client();
    let file = LoraFile::small(1);
    let upload = Upload::begin(&client, STYLE, file.bytes.len()).await;
    upload.add(0, piece(&file, 0, 1_000)).await;
    assert_eq!(objects_of(&house.site, client.person()).len(), 1);

    let ended = upload.terminate().await;

    assert_eq!(ended.status, 204, "{}", ended.text());
    assert!(matches!(upload.head().await.status.as_u16(), 404 | 410));
    let list = client.get("/loras").await.expect(200);
    assert_eq!(list["items"], json!([]));
    wait_until("every object to be gone", CLEANING, async || {
        objects_of(&house.site, client.person()).is_empty()
    })
    .await;
    Upload::begin(&client, STYLE, file.bytes.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_bytes_stop_coming_runs_out() {
    let site = Site::new(ATELIER).await;
    let server = site
        .setup()
        .with("ATELIER_UPLOAD_EXPIRY_SECONDS", "1")
        .start();
    let client = server.client();
    let file = LoraFile::small(1);
    let upload = Upload::begin(&client, STYLE, file.bytes.len()).await;
    upload.add(0, piece(&file, 0, 1_000)).await;

    wait_until("the time to be over", PATIENCE, async || {
        upload.head().await.status == 410
    })
    .await;

    upload
        .append(1_000, piece(&file, 1_000, usize::MAX))
        .await
        .expect_problem(410, "upload-gone");
    let lora = imports::settled(&client, upload.id()).await;
    assert_eq!(lora["error"]["code"], "upload_expired", "{lora}");
    wait_until("every object to be gone", CLEANING, async || {
        objects_of(&site, client.person()).is_empty()
    })
    .await;
    Upload::begin(&client, STYLE, file.bytes.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_announced_is_checked_before_any_byte() {
    let site = Site::new(ATELIER).await;
    let server = site
        .setup()
        .with("ATELIER_MAX_LORA_BYTES", "100000")
        .start();
    let client = server.client();
    client.add_lora("taken.safetensors", 1).await;

    uploads::create(&client, 100_001, &[("filename", STYLE)])
        .await
        .expect_problem(413, "payload-too-large");
    uploads::create(&client, 1_000, &[("filename", "taken.safetensors")])
        .await
        .expect_problem(409, "lora-filename-taken");
    for metadata in [
        vec![],
        vec![("filename", "../x.safetensors")],
        vec![("filename", "x.ckpt")],
        vec![("filename", STYLE), ("tags", "a\u{0}")],
    ] {
        uploads::create(&client, 1_000, &metadata)
            .await
            .expect_problem(422, "validation");
    }
    let nothing = uploads::create(&client, 0, &[("filename", STYLE)]).await;
    assert_eq!(nothing.expect_pointers(422, "validation"), ["/length"]);

    let list = client.get("/loras").await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    // The same filename again, to take the place of what is there.
    let metadata = [("filename", "taken.safetensors"), ("replace", "true")];
    let file = LoraFile::small(2);
    let upload = Upload::begin_with(&client, file.bytes.len(), &metadata).await;
    upload.add(0, &file.bytes).await;
    let lora = imports::ready(&client, upload.id()).await;
    assert_eq!(lora["version"], 2, "{lora}");
}
