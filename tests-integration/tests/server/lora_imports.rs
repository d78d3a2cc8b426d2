//! LoRAs that come from Google Drive, whatever happens on their way.

use std::time::Duration;

use atelier_testkit::drive_double::{Content, DriveDouble, DriveFile, Endpoint, Fault};
use atelier_testkit::wait_until;
use atelier_tests_integration::client::{Client, id_of};
use atelier_tests_integration::imports::{
    self, DriveSite, begin, content, import, import_of, import_with_token, lora_when, new_id,
    without_credentials,
};
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::server::Server;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::traces::{objects_of, rows_of};
use atelier_tests_integration::workflows::with_lora;
use reqwest::Method;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::OnceCell;

use crate::house::ATELIER;

const STYLE: &str = "style.safetensors";

/// Cleaning happens every second here.
const CLEANING: Duration = Duration::from_secs(30);

/// A token of somebody's own, which nobody else has ever seen.
fn own_token(drive: &DriveDouble) -> String {
    let token = format!("ya29.{}", new_id());
    drive.accept_token(&token);
    token
}

fn link(id: &str) -> String {
    format!("https://drive.google.com/file/d/{id}/view?usp=sharing")
}

/// A server that reaches a Drive on which nothing ever goes wrong.
struct Quiet {
    at: DriveSite,
    server: Server,
}

async fn quiet() -> &'static Quiet {
    static QUIET: OnceCell<Quiet> = OnceCell::const_new();
    QUIET
        .get_or_init(|| async {
            let at = DriveSite::new(ATELIER).await;
            let server = at.setup().start();
            Quiet { at, server }
        })
        .await
}

#[track_caller]
fn assert_is(lora: &Value, file: &LoraFile) {
    assert_eq!(lora["status"], "ready", "{lora}");
    assert_eq!(lora["sha256"], file.sha256(), "{lora}");
    assert_eq!(lora["hashes"], file.hashes(), "{lora}");
    assert_eq!(lora["file_size"], file.bytes.len(), "{lora}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_share_link_names_is_imported_and_runs() {
    let Quiet { at, server } = quiet().await;
    let client = server.client();
    let file = LoraFile::small(1);
    let id = at.put(STYLE, &file);

    let answer = import(
        &client,
        &json!({"google_drive_file_id": link(&id), "name": "A style", "description": "For houses",
                "tags": ["one"]}),
    )
    .await;

    let location = answer.header("location").to_owned();
    let begun = answer.expect(202);
    assert_eq!(begun["status"], "importing", "{begun}");
    assert_eq!(location, format!("/api/v1/comfyui/loras/{}", id_of(&begun)));
    assert_eq!(
        begun["source"],
        json!({"kind": "google_drive", "google_drive_file_id": id})
    );
    let lora = imports::ready(&client, &id_of(&begun)).await;
    assert_is(&lora, &file);
    assert_eq!(lora["filename"], STYLE);
    assert_eq!(lora["name"], "A style");
    assert_eq!(lora["description"], "For houses");
    assert_eq!(lora["tags"], json!(["one"]));
    assert_eq!(lora["source"], begun["source"]);
    let run = client.run_to_the_end(&with_lora(STYLE)).await;
    assert_eq!(run["status"], "completed", "{run}");
    let copy = at
        .site
        .backend
        .loras
        .join(format!("user-{}/{STYLE}", client.person().id));
    assert_eq!(std::fs::read(copy).expect("it is there"), file.bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_to_name_a_file_finds_it() {
    let Quiet { at, server } = quiet().await;
    let file = LoraFile::small(1);
    // What it is called there is a title, without an extension.
    let id = at.put("My Style v2", &file);
    let shortcut = new_id();
    at.drive.put(DriveFile::shortcut(&shortcut, &id));
    let old = new_id();
    at.drive.put(DriveFile {
        resource_key: Some("0-key".to_owned()),
        ..DriveFile::blob(&old, STYLE, content(&file))
    });
    let shared_drive = new_id();
    at.drive.put(DriveFile {
        drive_id: Some("0ADrive".to_owned()),
        ..DriveFile::blob(&shared_drive, STYLE, content(&file))
    });
    for (reference, source, filename) in [
        (id.clone(), &id, "My Style v2.safetensors"),
        (
            format!("https://drive.google.com/open?id={id}"),
            &id,
            "My Style v2.safetensors",
        ),
        (link(&shortcut), &id, "My Style v2.safetensors"),
        (
            format!("https://drive.google.com/file/d/{old}/view?resourcekey=0-key"),
            &old,
            STYLE,
        ),
        (link(&shared_drive), &shared_drive, STYLE),
    ] {
        let client = server.client();

        let begun = import_of(&client, &reference).await.expect(202);

        assert_eq!(begun["filename"], filename, "{reference}");
        assert_eq!(begun["source"]["google_drive_file_id"], json!(source));
        let lora = imports::ready(&client, &id_of(&begun)).await;
        assert_is(&lora, &file);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_told_in_bytes_and_a_deleted_import_ends() {
    let at = DriveSite::new(ATELIER).await;
    let server = at.setup().start();
    let client = server.client();
    let file = LoraFile::of_size(3_000_000);
    let id = at.put(STYLE, &file);
    at.drive
        .fail_next(Endpoint::Download, Fault::StallAfter(1_000_000));
    let lora = begin(&client, &id).await;
    let held_back = lora_when(&client, &lora, "a million bytes", |lora| {
        lora["progress"]["bytes_done"] == 1_000_000
    })
    .await;
    assert_eq!(held_back["status"], "importing");
    assert_eq!(held_back["progress"]["bytes_total"], file.bytes.len());
    assert_eq!(held_back["file_size"], Value::Null);

    client.delete(&format!("/loras/{lora}")).await.expect(204);

    client
        .get(&format!("/loras/{lora}"))
        .await
        .expect_problem(404, "lora-not-found");
    let transfers = "select count(*) from comfyui_lora_transfers";
    wait_until("the transfer to be gone", CLEANING, async || {
        at.site.database.count(transfers).await == 0
    })
    .await;
    wait_until("every object to be gone", CLEANING, async || {
        objects_of(&at.site, client.person()).is_empty()
    })
    .await;
    let downloads = at.drive.count(Endpoint::Download);
    // Its name is free, and the same file comes whole.
    let again = begin(&client, &id).await;
    let again = imports::ready(&client, &again).await;
    assert_is(&again, &file);
    assert_eq!(again["filename"], STYLE);
    assert_eq!(at.drive.count(Endpoint::Download), downloads + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn cuts_refusals_and_old_tokens_on_the_way_delay_an_import_only() {
    let at = DriveSite::new(ATELIER).await;
    let server = at.setup().start();
    let client = server.client();
    let file = LoraFile::of_size(500_000);
    let id = at.put(STYLE, &file);
    for fault in [
        Fault::CutAfter(100_000),
        Fault::api(429, "rateLimitExceeded").with_header("retry-after", "1"),
        Fault::CutAfter(100_000),
        Fault::api(401, "authError"),
        Fault::CutAfter(50_000),
        Fault::Reset,
        Fault::ShortBy(200_000),
        Fault::page(503),
        Fault::api(403, "userRateLimitExceeded"),
    ] {
        at.drive.fail_next(Endpoint::Download, fault);
    }

    let lora = begin(&client, &id).await;

    assert_is(&imports::ready(&client, &lora).await, &file);
    // It went on where it was, and did not begin anew.
    let requests = at.drive.requests();
    let ranges: Vec<_> = requests
        .iter()
        .filter(|request| request.endpoint == Some(Endpoint::Download))
        .map(|request| request.range.clone())
        .collect();
    assert!(ranges.len() >= 9, "{ranges:?}");
    let begun_anew = ranges
        .iter()
        .skip(1)
        .filter(|range| range.as_deref().is_none_or(|range| range == "bytes=0-"));
    assert_eq!(begun_anew.count(), 0, "{ranges:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_on_the_way_comes_as_it_is_then() {
    let at = DriveSite::new(ATELIER).await;
    let server = at.setup().start();
    let client = server.client();
    let (first, second) = (LoraFile::of_size(400_000), LoraFile::of_size(500_000));
    let id = at.put(STYLE, &first);
    at.drive.fail_next(
        Endpoint::Download,
        Fault::CutAndChange {
            after: 200_000,
            content: content(&second),
        },
    );

    let lora = begin(&client, &id).await;

    assert_is(&imports::ready(&client, &lora).await, &second);
}

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
async fn an_import_outlives_a_worker_that_is_killed_in_the_middle_of_it() {
    let at = DriveSite::new(ATELIER).await;
    let server = at.setup().arguments(&["serve", "--no-worker"]).start();
    let client = server.client();
    let file = LoraFile::of_size(2_000_000);
    let id = at.put(STYLE, &file);
    let worker = at.setup().arguments(&["worker"]);
    at.drive
        .fail_next(Endpoint::Download, Fault::StallAfter(1_000_000));
    let mut first = worker.spawn();
    let lora = begin(&client, &id).await;
    lora_when(&client, &lora, "a million bytes", |lora| {
        lora["progress"]["bytes_done"] == 1_000_000
    })
    .await;

    first.kill();
    let _second = worker.spawn();

    assert_is(&imports::ready(&client, &lora).await, &file);
    assert_eq!(
        objects_of(&at.site, client.person()),
        [format!("loras/{STYLE}")]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stops_in_good_order_gives_its_import_back() {
    let at = DriveSite::new(ATELIER).await;
    // With a lease that is longer than this test may take.
    let setup = at.setup().with("ATELIER_LEASE_SECONDS", "3600");
    let server = setup.clone().arguments(&["serve", "--no-worker"]).start();
    let client = server.client();
    let file = LoraFile::of_size(2_000_000);
    let id = at.put(STYLE, &file);
    at.drive
        .fail_next(Endpoint::Download, Fault::StallAfter(1_000_000));
    let worker = setup.arguments(&["worker"]);
    let mut first = worker.spawn();
    let lora = begin(&client, &id).await;
    wait_until("a download", imports::PATIENCE, async || {
        at.drive.count(Endpoint::Download) == 1
    })
    .await;

    let status = first.terminate(Duration::from_secs(30));
    let _second = worker.spawn();

    assert!(status.success(), "{status}");
    assert_is(&imports::ready(&client, &lora).await, &file);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebodys_own_token_is_used_once_and_kept_nowhere() {
    let at = DriveSite::new(ATELIER).await;
    let setup = without_credentials(at.site.setup(), &at.drive).with("RUST_LOG", "debug");
    let server = setup.start();
    let client = server.client();
    let token = own_token(&at.drive);
    let file = LoraFile::of_size(2_000_000);
    let id = at.put(STYLE, &file);
    at.drive
        .edit(&id, |file| file.readers = Some(vec![token.clone()]));
    at.drive
        .fail_next(Endpoint::Download, Fault::StallAfter(1_000_000));
    let is_traceless = async || {
        let rows = rows_of(&at.site.database).await;
        assert!(rows.contains(&id), "the import is not in the rows");
        let hexadecimal = token.bytes().fold(String::new(), |digits, byte| {
            digits + &format!("{byte:02x}")
        });
        for text in [rows, server.process.printed()] {
            assert!(!text.contains(&token), "the token was kept");
            assert!(!text.contains(&hexadecimal), "the token was kept");
        }
    };

    let begun = import_with_token(&client, &link(&id), &token)
        .await
        .expect(202);
    let begun = id_of(&begun);
    wait_until("a download", imports::PATIENCE, async || {
        at.drive.count(Endpoint::Download) == 1
    })
    .await;
    is_traceless().await;
    client.delete(&format!("/loras/{begun}")).await.expect(204);
    let again = import_with_token(&client, &link(&id), &token)
        .await
        .expect(202);
    let lora = imports::ready(&client, &id_of(&again)).await;

    assert_is(&lora, &file);
    is_traceless().await;
    let requests = at.drive.requests();
    assert!(
        requests
            .iter()
            .all(|request| request.bearer.as_deref() == Some(&token)),
        "something else was sent than the token"
    );
    assert!(!lora.to_string().contains(&token));
    // Nobody gets on with what was theirs.
    let stranger = server.client();
    import_of(&stranger, &id)
        .await
        .expect_problem(503, "drive-not-configured");
    let wrong = import_with_token(&stranger, &id, "ya29.nobody-knows-this").await;
    let wrong = wrong.expect_problem(422, "source-unauthorized");
    assert!(wrong.to_string().contains("access token"), "{wrong}");
    assert!(!wrong.to_string().contains("nobody-knows"), "{wrong}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_whose_token_went_with_its_server_fails_with_the_reason() {
    let at = DriveSite::new(ATELIER).await;
    let setup = without_credentials(at.site.setup(), &at.drive);
    let mut server = setup.start();
    let client = server.client();
    let token = own_token(&at.drive);
    let id = at.put(STYLE, &LoraFile::of_size(2_000_000));
    at.drive
        .fail_next(Endpoint::Download, Fault::StallAfter(1_000_000));
    let begun = import_with_token(&client, &id, &token).await.expect(202);
    wait_until("a download", imports::PATIENCE, async || {
        at.drive.count(Endpoint::Download) == 1
    })
    .await;

    server.process.kill();
    let server = setup.start();

    let client = Client::new(&server.url, Some(client.person().clone()));
    let lora = imports::settled(&client, &id_of(&begun)).await;
    assert_eq!(lora["status"], "failed", "{lora}");
    assert_eq!(lora["error"]["code"], "credential_gone", "{lora}");
    // Whoever sends the token again gets the file.
    let again = import_with_token(&client, &id, &token).await.expect(202);
    imports::ready(&client, &id_of(&again)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn this_servers_credentials_are_told_to_nobody() {
    let at = DriveSite::new(ATELIER).await;
    let server = at.setup().with("RUST_LOG", "debug").start();
    let client = server.client();
    let id = at.put(STYLE, &LoraFile::small(1));
    let lora = begin(&client, &id).await;
    let lora = imports::ready(&client, &lora).await;
    at.drive.revoke_access_tokens();
    at.drive.revoke_refresh_token();

    let refused = import_of(&client, &id).await;

    let refused = refused.expect_problem(422, "source-unauthorized");
    assert!(refused.to_string().contains("GDOC_TOKEN"), "{refused}");
    let rows = rows_of(&at.site.database).await;
    let printed = server.process.printed();
    let gdoc_token: Value = serde_json::from_str(&at.drive.gdoc_token()).expect("JSON");
    let secret = gdoc_token["client_secret"].as_str().expect("a secret");
    for secret in [secret, "double-refresh-token-", "double-access-token-"] {
        for text in [&rows, &printed, &lora.to_string(), &refused.to_string()] {
            assert!(!text.contains(secret), "{secret} was told");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_credentials_says_what_it_needs() {
    let site = Site::new(ATELIER).await;
    let server = site.serve();
    let client = server.client();

    let problem = import_of(&client, &new_id())
        .await
        .expect_problem(503, "drive-not-configured");

    let detail = problem["detail"].as_str().expect("a detail");
    for variable in ["GDOC_TOKEN", "GOOGLE_CLIENT_ID"] {
        assert!(detail.contains(variable), "{detail}");
    }
    let list = client.get("/loras").await.expect(200);
    assert_eq!(list["items"], json!([]));
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
    assert_is(&lora, &LoraFile::small(2));
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

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_that_is_none_is_refused_and_not_repeated() {
    let Quiet { server, .. } = quiet().await;
    let client = server.client();
    for (path, header, value) in [
        ("google-drive", "x-google-access-token", "two secret words"),
        ("google-drive", "x-google-access-token", ""),
        ("url", "x-source-authorization", "secret"),
        ("url", "x-source-authorization", "Basic secret"),
    ] {
        let request = client
            .request(Method::POST, &format!("/loras/import-from-{path}"))
            .header(header, value)
            .json(&json!({"google_drive_file_id": new_id(), "url": "https://huggingface.co/a"}));
        let problem = client
            .send(request)
            .await
            .expect_problem(400, "bad-request");
        assert!(!problem.to_string().contains("secret"), "{problem}");
    }
}
