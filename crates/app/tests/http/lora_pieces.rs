//! LoRAs in pieces, as tus 1.0.0 has it.

use std::time::Duration;

use actix_web::http::Method;
use actix_web::test::TestRequest;
use atelier_testkit::build::safetensors_bytes;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::support::{API, Answer, MAX_LORA_BYTES, Server, World, as_user};

const UPLOADS: &str = "/loras/uploads";
const BYTES: &str = "application/offset+octet-stream";

fn metadata(pairs: &[(&str, &str)]) -> String {
    let pairs = pairs
        .iter()
        .map(|(key, value)| format!("{key} {}", BASE64_STANDARD.encode(value)));
    pairs.collect::<Vec<_>>().join(",")
}

fn tus(method: Method, path: &str) -> TestRequest {
    as_user("alice", method, path).insert_header(("Tus-Resumable", "1.0.0"))
}

fn creation(length: usize, pairs: &[(&str, &str)]) -> TestRequest {
    tus(Method::POST, UPLOADS)
        .insert_header(("Upload-Length", length.to_string()))
        .insert_header(("Upload-Metadata", metadata(pairs)))
}

/// Begins an upload of `a.safetensors` and says where it is, below the API.
pub(crate) async fn created(server: &Server, length: usize) -> String {
    let answer = server
        .send(creation(length, &[("filename", "a.safetensors")]))
        .await;
    assert_eq!(answer.status, 201, "{answer:?}");
    path_of(&answer)
}

fn path_of(answer: &Answer) -> String {
    let location = answer.header("location").unwrap();
    location.strip_prefix(API).unwrap().to_owned()
}

fn piece(path: &str, offset: usize, bytes: &[u8]) -> TestRequest {
    tus(Method::PATCH, path)
        .insert_header(("Upload-Offset", offset.to_string()))
        .insert_header(("Content-Type", BYTES))
        .set_payload(bytes.to_vec())
}

pub(crate) async fn offset_of(server: &Server, path: &str) -> String {
    let answer = server.send(tus(Method::HEAD, path)).await;
    assert_eq!(answer.status, 204, "{answer:?}");
    answer.header("upload-offset").unwrap().to_owned()
}

fn lora_path(upload: &str) -> String {
    upload.replace("/uploads", "")
}

#[actix_web::test]
async fn options_say_what_is_known_to_anybody() {
    let server = World::new().server().await;

    let answer = server
        .send(TestRequest::with_uri(&format!("{API}{UPLOADS}")).method(Method::OPTIONS))
        .await;

    assert_eq!(answer.status, 204);
    assert_eq!(answer.header("tus-resumable"), Some("1.0.0"));
    assert_eq!(answer.header("tus-version"), Some("1.0.0"));
    assert_eq!(
        answer.header("tus-extension"),
        Some("creation,creation-with-upload,expiration,termination")
    );
    assert_eq!(
        answer.header("tus-max-size"),
        Some(MAX_LORA_BYTES.to_string().as_str())
    );
}

#[actix_web::test]
async fn a_file_in_pieces_becomes_a_lora() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);
    let pairs = [
        ("filename", "a.safetensors"),
        ("name", "Ein Stil"),
        ("tags", "ink, style"),
        ("filetype", "application/octet-stream"),
    ];

    let begun = server.send(creation(bytes.len(), &pairs)).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    assert_eq!(begun.header("tus-resumable"), Some("1.0.0"));
    assert_eq!(
        begun.header("upload-expires"),
        Some("Fri, 02 Jan 2026 00:00:00 GMT")
    );
    let path = path_of(&begun);
    for start in (0..bytes.len()).step_by(1_000) {
        let end = bytes.len().min(start + 1_000);
        let answer = server.send(piece(&path, start, &bytes[start..end])).await;
        assert_eq!(answer.status, 204, "{answer:?}");
        assert_eq!(
            answer.header("upload-offset"),
            Some(end.to_string().as_str())
        );
        assert_eq!(answer.header("tus-resumable"), Some("1.0.0"));
        assert!(answer.header("upload-expires").is_some());
    }
    let _carrying = world.carry_transfers();

    let lora = server.settled(&lora_path(&path)).await;
    assert_eq!(lora["status"], "ready", "{lora}");
    assert_eq!(
        (&lora["name"], &lora["tags"], &lora["file_size"]),
        (
            &json!("Ein Stil"),
            &json!(["ink", "style"]),
            &json!(bytes.len())
        )
    );
    let content = server.get(&format!("{}/content", lora_path(&path))).await;
    assert_eq!(content.bytes(), &bytes);
}

#[actix_web::test]
async fn an_upload_says_how_far_it_is() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);
    let path = created(&server, bytes.len()).await;
    server.send(piece(&path, 0, &bytes[..700])).await;

    let head = server.send(tus(Method::HEAD, &path)).await;
    let shown = server.get(&path).await;

    assert_eq!(head.status, 204);
    for (name, value) in [
        ("upload-offset", "700"),
        ("upload-length", bytes.len().to_string().as_str()),
        (
            "upload-metadata",
            &metadata(&[("filename", "a.safetensors")]),
        ),
        ("cache-control", "no-store"),
        ("upload-expires", "Fri, 02 Jan 2026 00:00:00 GMT"),
        ("tus-resumable", "1.0.0"),
    ] {
        assert_eq!(head.header(name), Some(value), "{name}");
    }
    let id = path.rsplit_once('/').unwrap().1;
    assert_eq!(
        shown.json(),
        json!({
            "id": id,
            "offset": 700,
            "length": bytes.len(),
            "expires_at": "2026-01-02T00:00:00.000000Z",
            "lora": format!("{API}/loras/{id}"),
        })
    );
}

#[actix_web::test]
async fn the_first_bytes_may_come_with_the_creation() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);
    let request = creation(bytes.len(), &[("filename", "a.safetensors")])
        .insert_header(("Content-Type", BYTES))
        .set_payload(bytes.slice(..500));

    let answer = server.send(request).await;

    assert_eq!(answer.status, 201, "{answer:?}");
    assert_eq!(answer.header("upload-offset"), Some("500"));
    assert_eq!(offset_of(&server, &path_of(&answer)).await, "500");
    let untyped = creation(bytes.len(), &[("filename", "b.safetensors")])
        .insert_header(("Content-Type", "application/octet-stream"))
        .insert_header(("Content-Length", "500"))
        .set_payload(bytes.slice(..500));
    server
        .send(untyped)
        .await
        .is_problem(415, "unsupported-media-type", &[]);
}

#[actix_web::test]
async fn every_request_names_the_version_and_so_does_every_answer() {
    let world = World::new();
    let server = world.server().await;
    let path = created(&server, 700).await;

    for (method, path) in [
        (Method::POST, UPLOADS),
        (Method::HEAD, &path),
        (Method::PATCH, &path),
        (Method::DELETE, &path),
    ] {
        for version in [None, Some("0.2.2")] {
            let mut request = as_user("alice", method.clone(), path);
            if let Some(version) = version {
                request = request.insert_header(("Tus-Resumable", version));
            }
            let answer = server.send(request).await;

            answer.is_problem(412, "unsupported-tus-version", &[]);
            assert_eq!(answer.header("tus-version"), Some("1.0.0"));
            assert_eq!(answer.header("tus-resumable"), Some("1.0.0"));
        }
    }
    let stranger = server
        .send(TestRequest::with_uri(&format!("{API}{path}")).method(Method::HEAD))
        .await;
    assert_eq!(
        (stranger.status.as_u16(), stranger.header("tus-resumable")),
        (401, Some("1.0.0"))
    );
    let unknown = server.send(tus(Method::PUT, &path)).await;
    unknown.is_problem(405, "method-not-allowed", &[]);
    assert_eq!(unknown.header("tus-resumable"), Some("1.0.0"));
}

#[actix_web::test]
async fn a_creation_that_cannot_be_is_told_why() {
    let world = World::new();
    let server = world.server().await;
    let good = ("Upload-Length", "700");
    let name = metadata(&[("filename", "a.safetensors")]);
    let send = async |headers: &[(&'static str, &str)]| {
        let mut request = tus(Method::POST, UPLOADS);
        for header in headers {
            request = request.insert_header(*header);
        }
        server.send(request).await
    };

    let metadata_of = |text: &str| ("Upload-Metadata", text.to_owned());
    for (pairs, pointer) in [
        (metadata_of(""), "/filename"),
        (metadata_of("filename not-base64!"), "/filename"),
        (
            metadata_of(&metadata(&[("filename", "../a.safetensors")])),
            "/filename",
        ),
        (
            metadata_of(&metadata(&[
                ("filename", "a.safetensors"),
                ("name", "a\0b"),
            ])),
            "/name",
        ),
        (
            metadata_of(&metadata(&[
                ("filename", "a.safetensors"),
                ("replace", "x"),
            ])),
            "/replace",
        ),
    ] {
        let answer = send(&[good, (pairs.0, pairs.1.as_str())]).await;
        answer.is_problem(422, "validation", &[pointer]);
    }
    for (header, value) in [
        ("Upload-Length", "seven"),
        ("Upload-Length", "-1"),
        ("Upload-Defer-Length", "1"),
    ] {
        let answer = send(&[(header, value), ("Upload-Metadata", &name)]).await;
        answer.is_problem(400, "bad-request", &[]);
        assert!(
            answer.json()["detail"]
                .as_str()
                .unwrap()
                .contains("Upload-Length")
        );
    }
    send(&[("Upload-Length", "0"), ("Upload-Metadata", &name)])
        .await
        .is_problem(422, "validation", &["/length"]);
    let much = (MAX_LORA_BYTES + 1).to_string();
    send(&[("Upload-Length", &much), ("Upload-Metadata", &name)])
        .await
        .is_problem(413, "payload-too-large", &[]);
}

#[actix_web::test]
async fn bytes_that_begin_elsewhere_change_nothing() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);
    let path = created(&server, bytes.len()).await;
    server.send(piece(&path, 0, &bytes[..700])).await;

    for offset in [0, 699, 701] {
        let answer = server.send(piece(&path, offset, &bytes[..100])).await;

        answer.is_problem(409, "upload-offset-mismatch", &[]);
        assert_eq!(answer.header("upload-offset"), Some("700"));
    }
    let untyped = piece(&path, 700, b"x").insert_header(("Content-Type", "text/plain"));
    server
        .send(untyped)
        .await
        .is_problem(415, "unsupported-media-type", &[]);
    let placeless = tus(Method::PATCH, &path).insert_header(("Content-Type", BYTES));
    server
        .send(placeless)
        .await
        .is_problem(400, "bad-request", &[]);
    let too_many = piece(&path, 700, &vec![1; bytes.len()]);
    server
        .send(too_many)
        .await
        .is_problem(413, "payload-too-large", &[]);
    assert_eq!(offset_of(&server, &path).await, "700");
}

#[actix_web::test]
async fn what_is_no_lora_is_refused_with_its_first_bytes() {
    let world = World::new();
    let server = world.server().await;
    let path = created(&server, 10_000).await;

    let answer = server.send(piece(&path, 0, &[0x80; 1_000])).await;

    answer.is_problem(422, "validation", &["/file"]);
    server
        .send(tus(Method::HEAD, &path))
        .await
        .is_problem(410, "upload-gone", &[]);
    let lora = server.get(&lora_path(&path)).await.json();
    assert_eq!(lora["status"], "failed");
}

#[actix_web::test]
async fn an_upload_that_waits_too_long_is_gone() {
    let mut world = World::new();
    world.limits.upload_expiry = Duration::from_mins(1);
    let server = world.server().await;
    let path = created(&server, 700).await;

    world.clock.advance(Duration::from_secs(61));

    for request in [
        tus(Method::HEAD, &path),
        piece(&path, 0, b"x"),
        tus(Method::DELETE, &path),
        as_user("alice", Method::GET, &path),
    ] {
        server
            .send(request)
            .await
            .is_problem(410, "upload-gone", &[]);
    }
}

#[actix_web::test]
async fn an_upload_is_given_up_until_it_is_complete() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);
    let path = created(&server, bytes.len()).await;

    assert_eq!(server.send(tus(Method::DELETE, &path)).await.status, 204);
    let gone = server.send(tus(Method::HEAD, &path)).await;
    assert!([404, 410].contains(&gone.problem().0), "{gone:?}");

    let path = created(&server, bytes.len()).await;
    server.send(piece(&path, 0, &bytes)).await;
    server
        .send(tus(Method::DELETE, &path))
        .await
        .is_problem(409, "upload-complete", &[]);
    server
        .send(piece(&path, bytes.len(), b""))
        .await
        .is_problem(409, "upload-complete", &[]);
    let complete = server.send(tus(Method::HEAD, &path)).await;
    assert_eq!(
        complete.header("upload-offset"),
        Some(bytes.len().to_string().as_str())
    );
    assert_eq!(complete.header("upload-expires"), None);
}

#[actix_web::test]
async fn a_post_may_stand_for_another_method() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);
    let path = created(&server, bytes.len()).await;
    let instead = |method: &'static str| {
        tus(Method::POST, &path)
            .insert_header(("X-HTTP-Method-Override", method))
            .insert_header(("Upload-Offset", "0"))
            .insert_header(("Content-Type", BYTES))
    };

    let appended = server
        .send(instead("PATCH").set_payload(bytes.slice(..700)))
        .await;
    assert_eq!(
        (appended.status.as_u16(), appended.header("upload-offset")),
        (204, Some("700"))
    );
    let asked = server.send(instead("head")).await;
    assert_eq!(asked.header("upload-offset"), Some("700"));
    assert_eq!(server.send(instead("DELETE")).await.status, 204);
    server
        .send(instead("PUT"))
        .await
        .is_problem(405, "method-not-allowed", &[]);
}

#[actix_web::test]
async fn an_upload_is_its_owners_alone() {
    let world = World::new();
    let server = world.server().await;
    let path = created(&server, 700).await;

    for method in [Method::HEAD, Method::DELETE, Method::GET] {
        let request = as_user("bob", method, &path).insert_header(("Tus-Resumable", "1.0.0"));
        server
            .send(request)
            .await
            .is_problem(404, "upload-not-found", &[]);
    }
    let request = as_user("bob", Method::PATCH, &path)
        .insert_header(("Tus-Resumable", "1.0.0"))
        .insert_header(("Upload-Offset", "0"))
        .insert_header(("Content-Type", BYTES))
        .set_payload("x");
    server
        .send(request)
        .await
        .is_problem(404, "upload-not-found", &[]);
}

#[actix_web::test]
async fn a_filename_that_is_taken_is_409_unless_it_is_to_be_replaced() {
    let world = World::new();
    let server = world.server().await;
    let bytes = safetensors_bytes(1);
    let path = created(&server, bytes.len()).await;
    server.send(piece(&path, 0, &bytes)).await;
    let _carrying = world.carry_transfers();
    let first = server.settled(&lora_path(&path)).await;

    let refused = server
        .send(creation(bytes.len(), &[("filename", "a.safetensors")]))
        .await;
    refused.is_problem(409, "lora-filename-taken", &[]);
    assert_eq!(refused.json()["existing"], first["id"]);

    let pairs = [("filename", "a.safetensors"), ("replace", "true")];
    let bytes = safetensors_bytes(2);
    let begun = server.send(creation(bytes.len(), &pairs)).await;
    assert_eq!(begun.status, 201, "{begun:?}");
    let path = path_of(&begun);
    server.send(piece(&path, 0, &bytes)).await;
    let second: Value = server.settled(&lora_path(&path)).await;
    assert_eq!(second["version"], 2, "{second}");
}
