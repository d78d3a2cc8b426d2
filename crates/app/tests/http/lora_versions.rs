//! Versions of a LoRA, and its copies on the backends.

use actix_web::http::Method;
use atelier_domain::ports::{BackendReport, LoraRepo as _, RunQueue as _};
use atelier_testkit::build::{a_new_lora, safetensors_bytes};
use serde_json::{Value, json};

use crate::support::{Server, World, as_user, form};

async fn upload(server: &Server, fill: u8) -> Value {
    let (content_type, body) = form(&[
        ("name=\"replace\"", b"true".as_ref()),
        (
            "name=\"file\"; filename=\"a.safetensors\"",
            &safetensors_bytes(fill),
        ),
    ]);
    let request = as_user("alice", Method::POST, "/loras")
        .insert_header(("Content-Type", content_type))
        .set_payload(body);
    let answer = server.send(request).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

fn path(lora: &Value, below: &str) -> String {
    format!("/loras/{}{below}", lora["id"].as_str().unwrap())
}

#[actix_web::test]
async fn the_versions_of_a_filename_are_read_by_any_of_them() {
    let world = World::new();
    let server = world.server().await;
    let (first, second) = (upload(&server, 1).await, upload(&server, 2).await);

    for lora in [&first, &second] {
        let versions = server.get(&path(lora, "/versions")).await.json();

        let items = versions["items"].as_array().unwrap();
        let numbers: Vec<_> = items.iter().map(|lora| &lora["version"]).collect();
        assert_eq!(numbers, [&json!(2), &json!(1)], "{versions}");
        assert_eq!(items[0], second);
        assert_eq!(items[0]["superseded_at"], Value::Null);
        assert!(items[1]["superseded_at"].is_string(), "{versions}");
        assert_ne!(items[0]["comfyui_path"], items[1]["comfyui_path"]);
    }
    let content = server.get(&path(&first, "/content")).await;
    assert_eq!(content.bytes(), &safetensors_bytes(1));
    let listed = server.get("/loras").await.json();
    assert_eq!(listed["items"], json!([second]));
}

#[actix_web::test]
async fn the_latest_version_takes_the_earlier_ones_along() {
    let world = World::new();
    let server = world.server().await;
    let (first, second) = (upload(&server, 1).await, upload(&server, 2).await);

    let deleted = server
        .send(as_user("alice", Method::DELETE, &path(&second, "")))
        .await;

    assert_eq!(deleted.status, 204);
    for lora in [&first, &second] {
        server
            .get(&path(lora, "/versions"))
            .await
            .is_problem(404, "lora-not-found", &[]);
    }
}

#[actix_web::test]
async fn a_lora_is_asked_for_on_every_backend_that_is_served() {
    let world = World::new();
    let server = world.server().await;
    let lora = upload(&server, 1).await;
    for backend in ["gpu-1", "gpu-2"] {
        let report = BackendReport {
            backend: backend.to_owned(),
            worker: "worker".to_owned(),
            answers: true,
            max_in_flight: 1,
            foreign_prompts: 0,
            checkpoint: None,
        };
        world.store.queue().tell_backend(report).await.unwrap();
    }
    let id = lora["id"].as_str().unwrap().parse().unwrap();
    world
        .store
        .queue()
        .tell_loras("gpu-1", vec![id])
        .await
        .unwrap();

    let answer = server.post(&path(&lora, "/prefetch"), &json!({})).await;

    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(
        answer.json(),
        json!({"backends": [
            {"backend": "gpu-1", "state": "present"},
            {"backend": "gpu-2", "state": "requested"}
        ]})
    );
}

#[actix_web::test]
async fn a_lora_on_its_way_cannot_be_asked_for() {
    let world = World::new();
    let server = world.server().await;
    let loras = world.store.loras();
    let lora = loras
        .reserve(&world.alice, a_new_lora("b.safetensors"))
        .await
        .unwrap();

    server
        .post(&format!("/loras/{}/prefetch", lora.id), &json!({}))
        .await
        .is_problem(409, "lora-not-ready", &[]);
    let versions = server.get(&format!("/loras/{}/versions", lora.id)).await;
    assert_eq!(versions.json(), json!({"items": []}));
}

#[actix_web::test]
async fn versions_and_copies_are_their_owners_alone() {
    let world = World::new();
    let server = world.server().await;
    let lora = upload(&server, 1).await;

    for (method, below) in [(Method::GET, "/versions"), (Method::POST, "/prefetch")] {
        server
            .send(as_user("bob", method, &path(&lora, below)))
            .await
            .is_problem(404, "lora-not-found", &[]);
    }
}
