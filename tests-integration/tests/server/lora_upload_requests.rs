//! What a client of the tus protocol may ask of an upload in pieces, and what it is told.

use std::time::Duration;

use atelier_testkit::{PATIENCE, wait_until};
use atelier_tests_integration::imports;
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::traces::objects_of;
use atelier_tests_integration::uploads::{self, Upload, offset_of};
use reqwest::Method;
use serde_json::json;

use crate::house::{ATELIER, house};

const STYLE: &str = "style.safetensors";

/// Cleaning happens every second here.
const CLEANING: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn pieces_out_of_place_change_nothing() {
    let client = house().await.server.client();
    let file = LoraFile::small(1);
    let length = file.bytes.len();
    let upload = Upload::begin(&client, STYLE, length).await;
    upload.add(0, file.piece(0, 1_000)).await;

    for offset in [0, 999, 1_001, length] {
        let refused = upload.append(offset, file.piece(1_000, 10)).await;
        assert_eq!(offset_of(&refused), 1_000);
        refused.expect_problem(409, "upload-offset-mismatch");
    }
    let mut too_long = file.piece(1_000, usize::MAX).to_vec();
    too_long.push(0);
    upload
        .append(1_000, &too_long)
        .await
        .expect_problem(413, "payload-too-large");

    assert_eq!(upload.offset().await, 1_000);
    upload.add(1_000, file.piece(1_000, usize::MAX)).await;
    upload
        .append(length, b"more")
        .await
        .expect_problem(409, "upload-complete");
    let lora = imports::ready(&client, upload.id()).await;
    file.assert_is(&lora);
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
    upload.add(0, file.piece(0, 100)).await;
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
    upload.add(0, file.piece(0, 1_000)).await;
    let seen = upload.through(&stranger);
    let mut nowhere = seen.clone();
    nowhere.path = upload
        .path
        .replace(upload.id(), "0a000000-0000-7000-8000-000000000001");

    for absent in [seen, nowhere] {
        assert_eq!(absent.head().await.status, 404);
        absent
            .append(1_000, file.piece(1_000, usize::MAX))
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
    upload.add(0, file.piece(0, 1_000)).await;
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
    upload.add(0, file.piece(0, 1_000)).await;

    wait_until("the time to be over", PATIENCE, async || {
        upload.head().await.status == 410
    })
    .await;

    upload
        .append(1_000, file.piece(1_000, usize::MAX))
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

#[tokio::test(flavor = "multi_thread")]
async fn clients_with_other_habits_are_understood() {
    let client = house().await.server.client();
    let file = LoraFile::small(1);
    let (first, second) = file.bytes.split_at(2_000);
    // The first bytes come with the request that begins it.
    let begun = uploads::request(&client, Method::POST, "")
        .header("upload-length", file.bytes.len())
        // "style.safetensors"
        .header("upload-metadata", "filename c3R5bGUuc2FmZXRlbnNvcnM=")
        .header("content-type", "application/offset+octet-stream")
        .body(first.to_vec());
    let begun = client.send(begun).await;
    assert_eq!(begun.status, 201, "{}", begun.text());
    assert_eq!(offset_of(&begun), 2_000);
    let path = begun.header("location").to_owned();
    let status = client.send(client.at(Method::GET, &path)).await.expect(200);
    assert_eq!(
        (&status["offset"], &status["length"]),
        (&json!(2_000), &json!(file.bytes.len()))
    );
    // Some proxies know no PATCH.
    let rest = client
        .at(Method::POST, &path)
        .header("tus-resumable", "1.0.0")
        .header("x-http-method-override", "PATCH")
        .header("content-type", "application/offset+octet-stream")
        .header("upload-offset", 2_000)
        .body(second.to_vec());

    let rest = client.send(rest).await;

    assert_eq!(rest.status, 204, "{}", rest.text());
    let id = path.rsplit('/').next().expect("a path has a last part");
    file.assert_is(&imports::ready(&client, id).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_whose_lora_is_deleted_is_over() {
    let house = house().await;
    let client = house.server.client();
    let file = LoraFile::small(1);
    let upload = Upload::begin(&client, STYLE, file.bytes.len()).await;
    upload.add(0, file.piece(0, 1_000)).await;
    uploads::create(&client, file.bytes.len(), &[("filename", STYLE)])
        .await
        .expect_problem(409, "lora-filename-taken");

    client
        .delete(&format!("/loras/{}", upload.id()))
        .await
        .expect(204);

    let late = upload.append(1_000, file.piece(1_000, usize::MAX)).await;
    assert!(matches!(late.status.as_u16(), 404 | 410), "{}", late.text());
    wait_until("every object to be gone", CLEANING, async || {
        objects_of(&house.site, client.person()).is_empty()
    })
    .await;
    Upload::begin(&client, STYLE, file.bytes.len()).await;
}
