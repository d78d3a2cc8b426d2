//! While the database is away, everything that needs it says so, and when to
//! try again.

use actix_web::http::Method;
use atelier::http::openapi;
use atelier_testkit::build::safetensors_bytes;
use atelier_testkit::random_id;
use serde_json::json;

use crate::inputs::png;
use crate::support::{API, Answer, Server, World, as_user, form};

/// A request that would work, if there were a database.
async fn send(server: &Server, method: &'static str, path: &str) -> Answer {
    let method: Method = method.to_uppercase().parse().unwrap();
    let request = as_user("alice", method.clone(), path);
    let graph = json!({"1": {"class_type": "PreviewImage", "inputs": {}}});
    let request = match (method.as_str(), path) {
        ("POST", "/workflows") | ("PUT", _) => {
            request.set_json(json!({"name": "A", "workflow_json": graph}))
        }
        ("POST", "/loras") => {
            let file = safetensors_bytes(1);
            let (content_type, body) =
                form(&[("name=\"file\"; filename=\"a.safetensors\"", &file)]);
            request
                .insert_header(("content-type", content_type))
                .set_payload(body)
        }
        ("POST", "/inputs") => {
            let (content_type, body) = form(&[("name=\"file\"; filename=\"a.png\"", &png(1))]);
            request
                .insert_header(("content-type", content_type))
                .set_payload(body)
        }
        ("POST", "/tokens") => request.set_json(json!({"name": "script", "scopes": ["runs:read"]})),
        ("POST", "/loras/uploads") => request
            .insert_header(("tus-resumable", "1.0.0"))
            .insert_header(("upload-length", "7"))
            .insert_header(("upload-metadata", "filename YS5zYWZldGVuc29ycw==")),
        ("PATCH" | "HEAD" | "DELETE", path) if path.starts_with("/loras/uploads/") => request
            .insert_header(("tus-resumable", "1.0.0"))
            .insert_header(("upload-offset", "0"))
            .insert_header(("content-type", "application/offset+octet-stream")),
        ("POST", "/loras/import-from-google-drive") => request
            .insert_header(("idempotency-key", "a-key"))
            .set_json(json!({"google_drive_file_id": "1AbCdEfGhIjK"})),
        ("POST", "/loras/import-from-url") => request
            .insert_header(("idempotency-key", "a-key"))
            .set_json(json!({"url": "https://models.example/a.safetensors"})),
        ("POST", _) => request.insert_header(("idempotency-key", "a-key")),
        ("PATCH", _) => request.set_json(json!({"name": "B"})),
        _ => request,
    };
    server.send(request).await
}

#[actix_web::test]
async fn every_route_says_503_and_when_to_try_again() {
    let world = World::new();
    let server = world.server().await;
    world.store.outage().begin();
    // What ComfyUI offers needs no database.
    world.comfy.outage().begin();
    let mut walked = 0;

    for (path, methods) in openapi::methods() {
        let Some(path) = path.strip_prefix(API) else {
            continue;
        };
        let path = path
            .replace("{id}", &random_id().to_string())
            .replace("{index}", "0");
        for method in methods {
            let answer = send(&server, method, &path).await;

            assert_eq!(answer.status, 503, "{method} {path}: {answer:?}");
            answer.is_problem(503, "unavailable", &[]);
            assert_eq!(answer.header("retry-after"), Some("2"), "{method} {path}");
            walked += 1;
        }
    }

    assert!(walked >= 30, "{walked}");
    world.store.outage().end();
    assert_eq!(server.get("/runs").await.status, 200);
}
