//! Input pictures over HTTP.

use actix_web::http::Method;
use actix_web::http::header::{CONTENT_TYPE, IF_NONE_MATCH, LOCATION, RANGE};
use atelier_domain::input::{InputFormat, InputPath};
use atelier_testkit::build::sha256_of;
use serde_json::{Value, json};

use crate::support::{API, Answer, Server, World, as_user, form};

/// What looks like a PNG of 64 by 32 pixels.
pub(crate) fn png(fill: u8) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x20\x08\x02\0\0\0".to_vec();
    png.extend([fill; 500]);
    png
}

async fn send(server: &Server, token: &str, parts: &[(&str, &[u8])]) -> Answer {
    let (content_type, body) = form(parts);
    let request = as_user(token, Method::POST, "/inputs")
        .insert_header((CONTENT_TYPE, content_type))
        .set_payload(body);
    server.send(request).await
}

async fn upload(server: &Server, filename: &str, bytes: &[u8]) -> Answer {
    let head = format!("name=\"file\"; filename=\"{filename}\"");
    send(server, "alice", &[(&head, bytes)]).await
}

async fn uploaded(server: &Server, filename: &str, fill: u8) -> Value {
    let answer = upload(server, filename, &png(fill)).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

fn path_of(input: &Value) -> String {
    format!("/inputs/{}", input["id"].as_str().unwrap())
}

#[actix_web::test]
async fn a_picture_is_shown_with_every_member() {
    let world = World::new();
    let server = world.server().await;
    let bytes = png(1);

    let answer = upload(&server, "Foto.jpg", &bytes).await;

    let input = answer.json();
    let path = path_of(&input);
    assert_eq!(answer.status, 201, "{input}");
    assert_eq!(
        answer.header(LOCATION.as_str()),
        Some(format!("{API}{path}").as_str())
    );
    let digest = sha256_of(&bytes);
    let expected = json!({
        "id": input["id"],
        "user_id": world.alice.user_id().to_string(),
        "filename": "Foto.jpg",
        "content_type": "image/png",
        "file_size": bytes.len(),
        "sha256": digest.to_string(),
        "width": 64,
        "height": 32,
        "comfyui_path": InputPath::of(world.alice.user_id(), &digest, InputFormat::Png).as_str(),
        "created_at": "2026-01-01T00:00:00.000000Z"
    });
    assert_eq!(input, expected);
    assert_eq!(server.get(&path).await.json(), expected);
}

#[actix_web::test]
async fn the_same_bytes_under_the_same_name_are_what_is_there() {
    let world = World::new();
    let server = world.server().await;
    let first = uploaded(&server, "a.png", 1).await;

    let again = upload(&server, "a.png", &png(1)).await;
    let other = uploaded(&server, "a.png", 2).await;

    assert_eq!(again.status, 200);
    assert_eq!(again.json(), first);
    assert_eq!(
        again.header(LOCATION.as_str()),
        Some(format!("{API}{}", path_of(&first)).as_str())
    );
    assert_ne!(other["id"], first["id"]);
}

#[actix_web::test]
async fn pictures_are_listed_newest_first() {
    let world = World::new();
    let server = world.server().await;
    let older = uploaded(&server, "a.png", 1).await;
    let newer = uploaded(&server, "b.png", 2).await;

    let first = server.get("/inputs?limit=1").await.json();
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = server
        .get(&format!("/inputs?limit=1&cursor={cursor}"))
        .await;

    let both = [&first["items"][0], &second.json()["items"][0]].map(Value::clone);
    assert!(both.contains(&older) && both.contains(&newer), "{both:?}");
    server
        .get("/inputs?limit=1&cursor=x")
        .await
        .is_problem(400, "bad-cursor", &["?cursor"]);
}

#[actix_web::test]
async fn the_bytes_come_back_whole_or_in_part_and_harmless() {
    let world = World::new();
    let server = world.server().await;
    let input = uploaded(&server, "Föto.html", 1).await;
    let path = format!("{}/content", path_of(&input));

    let whole = server.get(&path).await;
    let part = as_user("alice", Method::GET, &path).insert_header((RANGE, "bytes=1-3"));
    let part = server.send(part).await;
    let tag = whole.header("etag").unwrap().to_owned();
    let known = as_user("alice", Method::GET, &path).insert_header((IF_NONE_MATCH, tag.as_str()));
    let known = server.send(known).await;

    assert_eq!(whole.status, 200);
    assert_eq!(whole.bytes().as_ref(), png(1));
    assert_eq!(whole.header("content-type"), Some("image/png"));
    assert_eq!(tag, format!("\"{}\"", input["sha256"].as_str().unwrap()));
    let shown = whole.header("content-disposition").unwrap();
    assert_eq!(
        shown,
        "inline; filename=\"F_to.html\"; filename*=UTF-8''F%C3%B6to.html"
    );
    assert_eq!(
        whole.header("content-security-policy"),
        Some("sandbox; default-src 'none'")
    );
    assert_eq!(part.status, 206);
    assert_eq!(part.bytes().as_ref(), b"PNG");
    assert_eq!(known.status, 304);
}

#[actix_web::test]
async fn what_is_no_picture_is_refused_at_the_file() {
    let world = World::new();
    let server = world.server().await;
    for bytes in [
        &b"<svg xmlns=\"http://www.w3.org/2000/svg\"><script/></svg>"[..],
        b"<!DOCTYPE html><script>alert(1)</script>",
        b"\x80\x04\x95\x1a\0\0\0\0\0\0\0cos\nsystem\n",
        b"",
        &png(1)[..20],
        b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\x0f\xff\xff\0\x0f\xff\xff\x08\x02\0\0\0",
    ] {
        let answer = upload(&server, "a.png", bytes).await;
        answer.is_problem(422, "validation", &["/file"]);
    }
    for filename in ["../a.png", ".a.png", "a.png [output]"] {
        let answer = upload(&server, filename, &png(1)).await;
        answer.is_problem(422, "validation", &["/file"]);
    }
    assert_eq!(world.blobs.keys(), []);
}

#[actix_web::test]
async fn a_form_that_is_none_of_a_picture_is_refused() {
    let world = World::new();
    let server = world.server().await;
    let file = "name=\"file\"; filename=\"a.png\"";
    let bytes = png(1);

    let none = send(&server, "alice", &[]).await;
    let twice = send(&server, "alice", &[(file, &bytes), (file, &bytes)]).await;
    let unknown = send(&server, "alice", &[(file, &bytes), ("name=\"x\"", b"y")]).await;
    let nameless = send(&server, "alice", &[("name=\"file\"", &bytes)]).await;
    let json = server.post("/inputs", &json!({})).await;
    let (content_type, mut body) = form(&[(file, &bytes)]);
    body.truncate(body.len() - 30);
    let broken = as_user("alice", Method::POST, "/inputs")
        .insert_header((CONTENT_TYPE, content_type))
        .set_payload(body);
    let broken = server.send(broken).await;

    // A form without fields has no beginning either.
    assert!([400, 422].contains(&none.status.as_u16()), "{none:?}");
    twice.is_problem(422, "validation", &["/file"]);
    unknown.is_problem(422, "validation", &["/x"]);
    nameless.is_problem(422, "validation", &["/file"]);
    json.is_problem(415, "unsupported-media-type", &[]);
    broken.is_problem(400, "invalid-multipart", &[]);
    assert_eq!(world.blobs.keys(), []);
}

#[actix_web::test]
async fn a_picture_that_is_too_large_is_refused() {
    let mut world = World::new();
    world.limits.input_bytes = 300;
    let server = world.server().await;

    let answer = upload(&server, "a.png", &png(1)).await;

    answer.is_problem(413, "payload-too-large", &[]);
    assert_eq!(world.blobs.keys(), []);
}

#[actix_web::test]
async fn what_is_somebody_elses_or_deleted_is_not_there() {
    let world = World::new();
    let server = world.server().await;
    let input = uploaded(&server, "a.png", 1).await;
    let path = path_of(&input);
    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::GET, format!("{path}/content")),
        (Method::DELETE, path.clone()),
    ] {
        let answer = server.send(as_user("bob", method, &path)).await;
        answer.is_problem(404, "input-not-found", &[]);
    }
    let of_bob = server.send(as_user("bob", Method::GET, "/inputs")).await;
    assert_eq!(of_bob.json()["items"], json!([]));

    let deleted = server.send(as_user("alice", Method::DELETE, &path)).await;

    assert_eq!(deleted.status, 204);
    server
        .get(&path)
        .await
        .is_problem(404, "input-not-found", &[]);
    assert_eq!(server.get("/inputs").await.json()["items"], json!([]));
}

#[actix_web::test]
async fn a_graph_names_ones_own_pictures_alone() {
    let world = World::new();
    let server = world.server().await;
    let input = uploaded(&server, "cat.png", 1).await;
    let graph = |name: &str| {
        json!({
            "1": {"class_type": "LoadImage", "inputs": {"image": name}},
            "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}
        })
    };
    let run = async |name: &str| {
        let new = json!({"name": "w", "workflow_json": graph(name)});
        let workflow = server.post("/workflows", &new).await.json();
        let id = workflow["id"].as_str().unwrap();
        server
            .post(&format!("/workflows/{id}/run"), &json!({}))
            .await
    };

    assert_eq!(run("cat.png").await.status, 202);
    assert_eq!(
        run(input["comfyui_path"].as_str().unwrap()).await.status,
        202
    );
    for name in ["dog.png", "https://a.example/cat.png", "../cat.png"] {
        let refused = run(name).await;
        refused.is_problem(422, "validation", &["/workflow_json/1/inputs/image"]);
    }
}
