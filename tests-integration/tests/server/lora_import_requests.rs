//! Imports that are refused, at once or on their way, and requests that come again.

use std::time::Duration;

use atelier_testkit::drive_double::{Content, DriveFile, Endpoint, Fault};
use atelier_testkit::wait_until;
use atelier_tests_integration::client::id_of;
use atelier_tests_integration::imports::{
    self, DriveSite, begin, content, import, import_of, new_id,
};
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::traces::objects_of;
use reqwest::Method;
use serde_json::json;
use tokio::net::TcpListener;

use crate::house::ATELIER;
use crate::lora_imports::{Quiet, quiet};

const STYLE: &str = "style.safetensors";

/// Cleaning happens every second here.
const CLEANING: Duration = Duration::from_secs(30);

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_not_what_was_told_are_refused() {
    let Quiet { at, server } = quiet().await;
    let file = LoraFile::small(1);
    let other = LoraFile::small(2);
    let told_wrong = |wrong: &dyn Fn(&mut DriveFile)| {
        let id = at.put(STYLE, &file);
        at.drive.edit(&id, |file| wrong(file));
        id
    };
    for (id, code) in [
        (
            told_wrong(&|file| file.md5 = Some(content(&other).md5())),
            "wrong_bytes",
        ),
        (
            told_wrong(&|file| file.sha256 = Some(other.sha256())),
            "wrong_bytes",
        ),
        (
            told_wrong(&|file| {
                let pickle = Content::bytes(&b"\x80\x02}q\x00X\x05\x00\x00\x00stateq\x01s."[..]);
                *file = DriveFile::blob(&file.id.clone(), STYLE, pickle);
            }),
            "not_safetensors",
        ),
    ] {
        let client = server.client();

        let lora = begin(&client, &id).await;

        let lora = imports::settled(&client, &lora).await;
        assert_eq!(lora["status"], "failed", "{lora}");
        assert_eq!(lora["error"]["code"], code, "{lora}");
        let message = lora["error"]["message"].as_str().expect("a message");
        assert!(message.contains(' '), "{message}");
        assert_eq!(objects_of(&at.site, client.person()), Vec::<String>::new());
        // The name is free again.
        client.add_lora(STYLE, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_imported_is_refused_at_once_with_the_reason() {
    let Quiet { at, server } = quiet().await;
    let client = server.client();
    let file = LoraFile::small(1);
    let put = |change: &dyn Fn(&mut DriveFile)| {
        let mut file = DriveFile::blob(&new_id(), STYLE, content(&file));
        change(&mut file);
        let id = file.id.clone();
        at.drive.put(file);
        id
    };
    let folder = put(&|file| *file = DriveFile::folder(&file.id.clone()));
    let document = put(&|file| *file = DriveFile::document(&file.id.clone()));
    let loop_target = put(&|_| {});
    let one = put(&|file| *file = DriveFile::shortcut(&file.id.clone(), &loop_target));
    let two = put(&|file| *file = DriveFile::shortcut(&file.id.clone(), &one));
    for (reference, code, says) in [
        ("no id at all".to_owned(), "validation", "link"),
        (
            format!("https://evil.example/file/d/{folder}/view"),
            "validation",
            "link",
        ),
        (
            format!("https://drive.google.com/drive/folders/{folder}"),
            "source-refused",
            "folder",
        ),
        (folder.clone(), "source-refused", "folder"),
        (document.clone(), "source-refused", "document"),
        (two, "source-refused", "shortcut"),
        (put(&|file| file.trashed = true), "source-refused", "trash"),
        (
            put(&|file| file.can_download = false),
            "source-refused",
            "download",
        ),
        (
            put(&|file| file.readers = Some(Vec::new())),
            "source-not-found",
            "share",
        ),
        (new_id(), "source-not-found", "share"),
    ] {
        let problem = import_of(&client, &reference)
            .await
            .expect_problem(422, code);
        assert_eq!(
            problem["errors"][0]["pointer"], "/google_drive_file_id",
            "{problem}"
        );
        let detail = problem["errors"][0]["detail"].as_str().expect("a detail");
        assert!(detail.contains(says), "{reference}: {detail}");
    }
    let list = client.get("/loras").await.expect(200);
    assert_eq!(list["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_drive_forbids_in_the_middle_is_told_in_words() {
    let at = DriveSite::new(ATELIER).await;
    let server = at.setup().start();
    let client = server.client();
    let file = LoraFile::of_size(300_000);
    for (number, (fault, code, says)) in [
        (
            Fault::api(403, "downloadQuotaExceeded"),
            "source_refused",
            "24 hours",
        ),
        (
            Fault::api(403, "cannotDownloadFile"),
            "source_refused",
            "owner",
        ),
        (Fault::api(404, "notFound"), "source_not_found", "share"),
    ]
    .into_iter()
    .enumerate()
    {
        let id = at.put(&format!("style-{number}.safetensors"), &file);
        at.drive
            .fail_next(Endpoint::Download, Fault::CutAfter(100_000));
        at.drive.fail_next(Endpoint::Download, fault);

        let lora = begin(&client, &id).await;

        let lora = imports::settled(&client, &lora).await;
        assert_eq!(lora["error"]["code"], code, "{lora}");
        let message = lora["error"]["message"].as_str().expect("a message");
        assert!(message.contains(says), "{message}");
    }
    wait_until("every object to be gone", CLEANING, async || {
        objects_of(&at.site, client.person()).is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_request_is_carried_out_once() {
    let Quiet { at, server } = quiet().await;
    let client = server.client();
    let id = at.put(STYLE, &LoraFile::small(1));
    let other = at.put("other.safetensors", &LoraFile::small(2));
    let send = async |id: &str| {
        let request = client
            .request(Method::POST, "/loras/import-from-google-drive")
            .header("idempotency-key", "the-first-import")
            .json(&json!({"google_drive_file_id": id}));
        client.send(request).await
    };

    let first = send(&id).await;
    assert_eq!(first.status, 202, "{}", first.text());
    imports::ready(&client, &id_of(&first.json())).await;
    let again = send(&id).await;

    assert_eq!(again.status, 202, "{}", again.text());
    assert_eq!(again.bytes, first.bytes);
    assert_eq!(again.header("location"), first.header("location"));
    assert_eq!(again.header("idempotent-replayed"), "true");
    send(&other)
        .await
        .expect_problem(422, "idempotency-key-reused");
    let list = client.get("/loras").await.expect(200);
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filename_that_is_taken_is_refused_replaced_or_the_same() {
    let Quiet { at, server } = quiet().await;
    let client = server.client();
    let existing = client.add_lora(STYLE, 1).await;
    let same = at.put(STYLE, &LoraFile::small(1));
    let other = at.put(STYLE, &LoraFile::small(2));

    let unchanged = import_of(&client, &same).await.expect(200);
    let refused = import_of(&client, &other).await;
    let replacing = import(
        &client,
        &json!({"google_drive_file_id": other, "replace": true}),
    )
    .await
    .expect(202);

    assert_eq!(unchanged, existing);
    let problem = refused.expect_problem(409, "lora-filename-taken");
    let told = problem.to_string();
    assert!(told.contains("replace"), "{problem}");
    assert!(told.contains(&id_of(&existing)), "{problem}");
    let lora = imports::ready(&client, &id_of(&replacing)).await;
    assert_eq!(lora["version"], 2, "{lora}");
    assert_ne!(lora["comfyui_path"], existing["comfyui_path"]);
    LoraFile::small(2).assert_is(&lora);
    let named = import(
        &client,
        &json!({"google_drive_file_id": other, "filename": "other.safetensors"}),
    )
    .await
    .expect(202);
    let named = imports::ready(&client, &id_of(&named)).await;
    assert_eq!(named["filename"], "other.safetensors");
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_are_wrong_are_told_everything_at_once() {
    let Quiet { at, server } = quiet().await;
    let client = server.client();
    let id = at.put(STYLE, &LoraFile::small(1));

    for (body, pointers) in [
        (json!({}), vec!["/google_drive_file_id"]),
        (
            json!({"google_drive_file_id": 7}),
            vec!["/google_drive_file_id"],
        ),
        (
            json!({"google_drive_file_id": id, "name": "", "tags": ["a\u{0}"]}),
            vec!["/name", "/tags/0"],
        ),
        (
            json!({"google_drive_file_id": id, "filename": "../x.safetensors"}),
            vec!["/filename"],
        ),
    ] {
        let answer = import(&client, &body).await;
        assert!(
            matches!(answer.status.as_u16(), 400 | 422),
            "{body}: {}",
            answer.text()
        );
        let problem = answer.json();
        let told: Vec<_> = problem["errors"]
            .as_array()
            .expect("a list of errors")
            .iter()
            .map(|error| error["pointer"].as_str().expect("a pointer"))
            .collect();
        assert_eq!(told, pointers, "{body}: {problem}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_lead_elsewhere_are_refused() {
    let Quiet { server, .. } = quiet().await;
    let client = server.client();
    for (url, code, says) in [
        (
            "https://evil.example/x.safetensors",
            "source-refused",
            "huggingface.co",
        ),
        (
            "http://huggingface.co/a/b/resolve/main/x.safetensors",
            "source-refused",
            "https",
        ),
        (
            "https://127.0.0.1/x.safetensors",
            "source-refused",
            "IP address",
        ),
        (
            "https://[::1]/x.safetensors",
            "source-refused",
            "IP address",
        ),
        (
            "https://169.254.169.254/latest/meta-data",
            "source-refused",
            "IP address",
        ),
        (
            "https://2130706433/x.safetensors",
            "source-refused",
            "IP address",
        ),
        (
            "https://localhost/x.safetensors",
            "source-refused",
            "localhost",
        ),
        (
            "https://user:secret@huggingface.co/a/b/resolve/main/x.safetensors",
            "source-refused",
            "password",
        ),
        (
            "https://civitai.com/api/download/models/1?token=secret",
            "source-refused",
            "token",
        ),
        ("file:///etc/passwd", "source-refused", "https"),
        ("not an address", "validation", "https"),
    ] {
        let answer = client
            .post("/loras/import-from-url", &json!({"url": url}))
            .await;

        let problem = answer.expect_problem(422, code);
        assert_eq!(problem["errors"][0]["pointer"], "/url", "{problem}");
        let detail = problem["errors"][0]["detail"].as_str().expect("a detail");
        assert!(detail.contains(says), "{url}: {detail}");
        assert!(!problem.to_string().contains("secret"), "{url}: {problem}");
    }
    let list = client.get("/loras").await.expect(200);
    assert_eq!(list["items"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_allowed_and_not_public_is_not_asked() {
    let site = Site::new(ATELIER).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let server = site
        .setup()
        .with("ATELIER_IMPORT_HOSTS", format!("localhost:{port}"))
        .start();
    let client = server.client();

    let url = format!("https://localhost:{port}/style.safetensors");
    let answer = client
        .post("/loras/import-from-url", &json!({"url": url}))
        .await;

    let problem = answer.expect_problem(422, "source-refused");
    assert!(problem.to_string().contains("public"), "{problem}");
    let connected = tokio::time::timeout(Duration::ZERO, listener.accept()).await;
    assert!(connected.is_err(), "somebody connected");
}
