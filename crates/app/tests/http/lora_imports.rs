//! LoRAs from Google Drive and from addresses.

use std::time::Duration;

use actix_web::http::Method;
use atelier_domain::ports::RemoteError;
use atelier_testkit::build::safetensors_bytes;
use serde_json::{Value, json};

use crate::support::{API, Answer, Server, World, as_user};

const DRIVE: &str = "/loras/import-from-google-drive";
const URL: &str = "/loras/import-from-url";
const FILE_ID: &str = "1AbCdEfGhIjKlMnOp";
const ADDRESS: &str = "https://models.example/ink.safetensors";

fn of_drive() -> Value {
    json!({"google_drive_file_id": FILE_ID})
}

fn of_url() -> Value {
    json!({"url": ADDRESS})
}

fn lora_path(answer: &Answer) -> String {
    let location = answer.header("location").unwrap();
    location.strip_prefix(API).unwrap().to_owned()
}

async fn post_with(
    server: &Server,
    path: &str,
    header: (&'static str, &str),
    body: &Value,
) -> Answer {
    let request = as_user("alice", Method::POST, path)
        .insert_header(header)
        .set_json(body);
    server.send(request).await
}

#[actix_web::test]
async fn a_file_on_drive_becomes_a_lora() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);
    world.drive.put(FILE_ID, "ink.safetensors", bytes.clone());
    let body = json!({
        "google_drive_file_id": FILE_ID, "filename": "pen.safetensors", "name": "Pen",
        "description": "for drawings", "tags": ["ink"], "replace": false
    });

    let answer = server.post(DRIVE, &body).await;

    assert_eq!(answer.status, 202, "{answer:?}");
    let begun = answer.json();
    assert_eq!(begun["status"], "importing");
    assert_eq!(
        begun["source"],
        json!({"kind": "google_drive", "google_drive_file_id": FILE_ID})
    );
    assert_eq!(
        begun["progress"],
        json!({"bytes_done": 0, "bytes_total": bytes.len()})
    );
    let _carrying = world.carry_transfers();
    let lora = server.settled(&lora_path(&answer)).await;
    assert_eq!(lora["status"], "ready", "{lora}");
    assert_eq!(
        (
            &lora["filename"],
            &lora["name"],
            &lora["description"],
            &lora["tags"]
        ),
        (
            &json!("pen.safetensors"),
            &json!("Pen"),
            &json!("for drawings"),
            &json!(["ink"])
        )
    );
}

#[actix_web::test]
async fn a_file_on_the_web_becomes_a_lora_under_its_own_name() {
    let world = World::new();
    let server = world.server().await;
    world
        .web
        .put(ADDRESS, "ink.safetensors", safetensors_bytes(1));

    let answer = server.post(URL, &of_url()).await;

    assert_eq!(answer.status, 202, "{answer:?}");
    let _carrying = world.carry_transfers();
    let lora = server.settled(&lora_path(&answer)).await;
    assert_eq!(
        (&lora["status"], &lora["filename"], &lora["source"]),
        (
            &json!("ready"),
            &json!("ink.safetensors"),
            &json!({"kind": "url", "url": ADDRESS})
        )
    );
}

#[actix_web::test]
async fn what_is_there_already_is_200() {
    let world = World::new();
    let server = world.server().await;
    world
        .web
        .put(ADDRESS, "ink.safetensors", safetensors_bytes(1));
    let first = server.post(URL, &of_url()).await;
    let _carrying = world.carry_transfers();
    let lora = server.settled(&lora_path(&first)).await;

    let again = server.post(URL, &of_url()).await;

    assert_eq!((again.status.as_u16(), again.json()), (200, lora));
    assert_eq!(again.header("location"), first.header("location"));
}

#[actix_web::test]
async fn other_bytes_under_a_filename_are_409_with_the_way_out() {
    let world = World::new();
    let server = world.server().await;
    world
        .web
        .put(ADDRESS, "ink.safetensors", safetensors_bytes(1));
    let first = server.post(URL, &of_url()).await;
    let _carrying = world.carry_transfers();
    let lora = server.settled(&lora_path(&first)).await;
    world.web.change(ADDRESS, safetensors_bytes(2));

    let refused = server.post(URL, &of_url()).await;
    refused.is_problem(409, "lora-filename-taken", &[]);
    assert_eq!(refused.json()["existing"], lora["id"]);

    let replacing = server
        .post(URL, &json!({"url": ADDRESS, "replace": true}))
        .await;
    assert_eq!(replacing.status, 202, "{replacing:?}");
    assert_eq!(server.settled(&lora_path(&replacing)).await["version"], 2);
}

#[actix_web::test]
async fn a_deleted_import_is_cancelled() {
    let world = World::new();
    let server = world.server().await;
    world
        .web
        .put(ADDRESS, "ink.safetensors", safetensors_bytes(1));
    let answer = server.post(URL, &of_url()).await;
    let path = lora_path(&answer);

    let deleted = server.send(as_user("alice", Method::DELETE, &path)).await;

    assert_eq!(deleted.status, 204);
    server
        .get(&path)
        .await
        .is_problem(404, "lora-not-found", &[]);
    assert_eq!(server.post(URL, &of_url()).await.status, 202);
}

#[actix_web::test]
async fn a_request_that_comes_again_under_its_key_gets_the_same_answer() {
    let world = World::new();
    let server = world.server().await;
    for (path, body) in [(DRIVE, of_drive()), (URL, of_url())] {
        world
            .drive
            .put(FILE_ID, "pen.safetensors", safetensors_bytes(1));
        world
            .web
            .put(ADDRESS, "ink.safetensors", safetensors_bytes(1));
        let key = ("Idempotency-Key", "\"once\"");

        let first = post_with(&server, path, key, &body).await;
        let again = post_with(&server, path, key, &body).await;

        assert_eq!((first.status.as_u16(), again.status.as_u16()), (202, 202));
        assert_eq!(first.header("idempotent-replayed"), None);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(first.bytes(), again.bytes());
        assert_eq!(first.header("location"), again.header("location"));
        let mut other = body.clone();
        other["name"] = json!("Another");
        post_with(&server, path, key, &other)
            .await
            .is_problem(422, "idempotency-key-reused", &[]);
    }
}

#[actix_web::test]
async fn a_lent_token_opens_the_file() {
    let world = World::new();
    let server = world.server().await;
    world
        .drive
        .put(FILE_ID, "pen.safetensors", safetensors_bytes(1));
    world.drive.want_token(FILE_ID, "ya29.lent");
    world
        .web
        .put(ADDRESS, "ink.safetensors", safetensors_bytes(1));
    world.web.want_token(ADDRESS, "hf_lent");

    for (path, header, body) in [
        (DRIVE, ("X-Google-Access-Token", "ya29.lent"), of_drive()),
        (URL, ("X-Source-Authorization", "Bearer hf_lent"), of_url()),
    ] {
        let without = server.post(path, &body).await;
        assert_eq!(without.status, 422, "{without:?}");
        let answer = post_with(&server, path, header, &body).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        // Nobody else could carry it out.
        let lora = server.settled(&lora_path(&answer)).await;
        assert_eq!(lora["status"], "ready", "{lora}");
        assert!(!lora.to_string().contains("lent"), "{lora}");
    }
}

#[actix_web::test]
async fn what_is_no_token_is_400_and_is_not_repeated() {
    let server = World::new().server().await;

    for (path, header, body) in [
        (
            DRIVE,
            ("X-Google-Access-Token", "two words-hunter2"),
            of_drive(),
        ),
        (DRIVE, ("X-Google-Access-Token", ""), of_drive()),
        (URL, ("X-Source-Authorization", "hunter2"), of_url()),
        (URL, ("X-Source-Authorization", "Basic hunter2"), of_url()),
    ] {
        let answer = post_with(&server, path, header, &body).await;

        answer.is_problem(400, "bad-request", &[]);
        assert!(!answer.json().to_string().contains("hunter2"), "{answer:?}");
    }
}

#[actix_web::test]
async fn what_is_wrong_where_the_file_lies_is_told_at_its_member() {
    let world = World::new();
    let server = world.server().await;
    let told = |text: &str| text.to_owned();

    for (error, status, code) in [
        (RemoteError::Invalid(told("is no file")), 422, "validation"),
        (
            RemoteError::NotFound(told("is not there")),
            422,
            "source-not-found",
        ),
        (
            RemoteError::Refused(told("is a folder")),
            422,
            "source-refused",
        ),
        (
            RemoteError::Unauthorized(told("is not shown")),
            422,
            "source-unauthorized",
        ),
    ] {
        world.drive.fail_next_metadata(error);
        let answer = server.post(DRIVE, &of_drive()).await;
        answer.is_problem(status, code, &["/google_drive_file_id"]);
    }
    world
        .web
        .fail_next_metadata(RemoteError::Refused(told("leads to a page")));
    let answer = server.post(URL, &of_url()).await;
    answer.is_problem(422, "source-refused", &["/url"]);
    assert_eq!(answer.json()["detail"], "Leads to a page.");
    assert_eq!(server.get("/loras").await.json()["items"], json!([]));
}

#[actix_web::test]
async fn trouble_that_is_not_the_senders_is_5xx() {
    let world = World::new();
    let server = world.server().await;

    world.drive.fail_next_metadata(RemoteError::NotConfigured(
        "this server has no credentials: set GDOC_TOKEN".to_owned(),
    ));
    let answer = server.post(DRIVE, &of_drive()).await;
    answer.is_problem(503, "drive-not-configured", &[]);
    assert!(
        answer.json()["detail"]
            .as_str()
            .unwrap()
            .contains("GDOC_TOKEN")
    );

    for (wait, expected) in [(None, "5"), (Some(Duration::from_secs(90)), "90")] {
        world.drive.fail_next_metadata(RemoteError::Unavailable {
            retry_after: wait,
            source: "hunter2".into(),
        });
        let answer = server.post(DRIVE, &of_drive()).await;
        answer.is_problem(503, "unavailable", &[]);
        assert_eq!(answer.header("retry-after"), Some(expected));
        assert!(!answer.json().to_string().contains("hunter2"));
    }
    world
        .drive
        .fail_next_metadata(RemoteError::Backend("hunter2".into()));
    let answer = server.post(DRIVE, &of_drive()).await;
    answer.is_problem(502, "upstream-failed", &[]);
    assert!(!answer.json().to_string().contains("hunter2"));
}

#[actix_web::test]
async fn nobody_has_more_imports_under_way_than_they_may() {
    let mut world = World::new();
    world.limits.unfinished_imports = 1;
    let server = world.server().await;
    world
        .web
        .put(ADDRESS, "ink.safetensors", safetensors_bytes(1));
    world
        .drive
        .put(FILE_ID, "pen.safetensors", safetensors_bytes(2));
    assert_eq!(server.post(URL, &of_url()).await.status, 202);

    let answer = server.post(DRIVE, &of_drive()).await;

    answer.is_problem(429, "too-many-imports", &[]);
    assert!(answer.header("retry-after").is_some());
}

#[actix_web::test]
async fn everything_that_is_wrong_with_the_request_is_told_at_once() {
    let world = World::new();
    let server = world.server().await;
    world
        .web
        .put(ADDRESS, "ink.safetensors", safetensors_bytes(1));

    server
        .post(
            URL,
            &json!({"link": ADDRESS, "replace": "yes", "tags": "a"}),
        )
        .await
        .is_problem(422, "validation", &["/url", "/tags", "/replace", "/link"]);
    server
        .post(
            URL,
            &json!({"url": ADDRESS, "name": "", "tags": ["a\u{0}"]}),
        )
        .await
        .is_problem(422, "validation", &["/name", "/tags/0"]);
    server
        .post(URL, &json!({"url": ADDRESS, "filename": "ink.ckpt"}))
        .await
        .is_problem(422, "validation", &["/filename"]);
}

#[actix_web::test]
async fn a_file_larger_than_the_limit_is_413() {
    let world = World::new();
    let server = world.server().await;
    world.web.put(ADDRESS, "ink.safetensors", vec![0; 100_001]);

    server
        .post(URL, &of_url())
        .await
        .is_problem(413, "payload-too-large", &[]);
}
