use actix_web::http::Method;
use actix_web::http::header::RANGE;
use atelier_domain::lora::Lora;
use atelier_domain::ports::LoraRepo as _;
use atelier_testkit::build::{a_new_lora, safetensors_bytes, sha256_of};
use serde_json::{Value, json};

use crate::support::{Server, World, as_user, form};

async fn uploaded(server: &Server, filename: &str) -> Value {
    let bytes = safetensors_bytes(1);
    let head = format!("name=\"file\"; filename=\"{filename}\"");
    let (content_type, body) = form(&[(&head, &bytes), ("name=\"tags\"", b"style, house")]);
    let request = as_user("alice", Method::POST, "/loras")
        .insert_header(("Content-Type", content_type))
        .set_payload(body);
    let answer = server.send(request).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    answer.json()
}

async fn reserved(world: &World) -> Lora {
    let loras = world.store.loras();
    loras
        .reserve(&world.alice, a_new_lora("b.safetensors"))
        .await
        .unwrap()
}

#[actix_web::test]
async fn a_lora_is_shown_with_every_member() {
    let world = World::new();
    let server = world.server().await;
    let lora = uploaded(&server, "a_style.safetensors").await;
    let path = format!("/loras/{}", lora["id"].as_str().unwrap());

    let read = server.get(&path).await.json();

    assert_eq!(read, lora);
    let bytes = safetensors_bytes(1);
    let expected = json!({
        "id": lora["id"],
        "user_id": world.alice.user_id().to_string(),
        "name": "a_style",
        "filename": "a_style.safetensors",
        "version": 1,
        "superseded_at": null,
        "description": null,
        "tags": ["style", "house"],
        "status": "ready",
        "file_size": bytes.len(),
        "sha256": sha256_of(&bytes).to_string(),
        "hashes": {
            "sha256": sha256_of(&bytes).to_string(),
            "blake3": lora["hashes"]["blake3"],
            "autov2": sha256_of(&bytes).first_digits(10).to_uppercase(),
            "autov3": lora["hashes"]["autov3"]
        },
        "comfyui_path": format!("user-{}/a_style.safetensors", world.alice.user_id()),
        "base_model": "SD 1.x",
        "base_model_confidence": lora["base_model_confidence"],
        "base_model_evidence": lora["base_model_evidence"],
        "title": lora["title"],
        "rank": 4,
        "network_type": "LoRA",
        "trigger_words": lora["trigger_words"],
        "metadata": lora["metadata"],
        "source": {"kind": "upload"},
        "progress": null,
        "error": null,
        "created_at": "2026-01-01T00:00:00.000000Z"
    });
    assert_eq!(lora, expected);
    assert_eq!(lora["hashes"]["blake3"].as_str().unwrap().len(), 64);
    assert_eq!(lora["hashes"]["autov3"].as_str().unwrap().len(), 12);
    assert!(["low", "medium", "high"].contains(&lora["base_model_confidence"].as_str().unwrap()));
    assert!(!lora["base_model_evidence"].as_str().unwrap().is_empty());
    assert!(
        lora["trigger_words"]
            .as_array()
            .unwrap()
            .contains(&json!("trigger_word")),
        "{lora}"
    );
    assert!(lora["metadata"].is_object());
}

#[actix_web::test]
async fn a_lora_on_its_way_shows_how_far_it_is_and_has_no_content_yet() {
    let world = World::new();
    let server = world.server().await;
    let lora = reserved(&world).await;

    let shown = server.get(&format!("/loras/{}", lora.id)).await.json();

    assert_eq!(shown["status"], "uploading");
    assert_eq!(
        shown["progress"],
        json!({"bytes_done": 0, "bytes_total": null})
    );
    assert_eq!(
        (&shown["file_size"], &shown["metadata"]),
        (&Value::Null, &json!({}))
    );
    let content = server.get(&format!("/loras/{}/content", lora.id)).await;
    content.is_problem(409, "lora-not-ready", &[]);
}

#[actix_web::test]
async fn loras_are_listed_by_status_tag_and_text() {
    let world = World::new();
    let server = world.server().await;
    uploaded(&server, "a_style.safetensors").await;
    reserved(&world).await;
    let count = async |path: &str| {
        server.get(path).await.json()["items"]
            .as_array()
            .unwrap()
            .len()
    };

    assert_eq!(count("/loras").await, 2);
    assert_eq!(count("/loras?status=ready").await, 1);
    assert_eq!(count("/loras?tag=house").await, 1);
    assert_eq!(count("/loras?q=A_STY").await, 1);
    assert_eq!(count("/loras?status=failed").await, 0);
    assert_eq!(count("/loras?base_model=sd%201.x").await, 1);
    assert_eq!(count("/loras?base_model=SDXL").await, 0);
    let hash = sha256_of(&safetensors_bytes(1))
        .first_digits(10)
        .to_uppercase();
    assert_eq!(count(&format!("/loras?hash={hash}")).await, 1);
    assert_eq!(count("/loras?hash=0123456789").await, 0);
}

#[actix_web::test]
async fn words_that_are_no_model_and_no_hash_are_refused() {
    let server = World::new().server().await;

    let answer = server.get("/loras?base_model=sdx&hash=xyz").await;

    answer.is_problem(422, "validation", &["?base_model", "?hash"]);
    assert!(
        answer.json().to_string().contains("Z-Image or unknown"),
        "{answer:?}"
    );
}

#[actix_web::test]
async fn the_content_is_the_file_to_save() {
    let world = World::new();
    let server = world.server().await;
    let lora = uploaded(&server, "a_style.safetensors").await;
    let path = format!("/loras/{}/content", lora["id"].as_str().unwrap());

    let whole = server.get(&path).await;
    let part = server
        .send(as_user("alice", Method::GET, &path).insert_header((RANGE, "bytes=0-7")))
        .await;

    assert_eq!(
        (whole.status.as_u16(), whole.bytes()),
        (200, &safetensors_bytes(1))
    );
    assert_eq!(
        whole.header("content-type"),
        Some("application/octet-stream")
    );
    assert_eq!(
        whole.header("content-disposition"),
        Some("attachment; filename=\"a_style.safetensors\"")
    );
    assert_eq!(
        (part.status.as_u16(), part.bytes().as_ref()),
        (206, &safetensors_bytes(1)[..8])
    );
}

#[actix_web::test]
async fn a_deleted_lora_is_gone_at_once() {
    let world = World::new();
    let server = world.server().await;
    let lora = uploaded(&server, "a_style.safetensors").await;
    let path = format!("/loras/{}", lora["id"].as_str().unwrap());

    assert_eq!(
        server
            .send(as_user("alice", Method::DELETE, &path))
            .await
            .status,
        204
    );

    for path in [path.clone(), format!("{path}/content")] {
        server
            .get(&path)
            .await
            .is_problem(404, "lora-not-found", &[]);
    }
    server
        .send(as_user("alice", Method::DELETE, &path))
        .await
        .is_problem(404, "lora-not-found", &[]);
}

#[actix_web::test]
async fn a_lora_is_its_owners_alone() {
    let world = World::new();
    let server = world.server().await;
    let lora = uploaded(&server, "a_style.safetensors").await;
    let path = format!("/loras/{}", lora["id"].as_str().unwrap());

    for (method, path) in [
        (Method::GET, path.clone()),
        (Method::GET, format!("{path}/content")),
        (Method::DELETE, path.clone()),
    ] {
        server
            .send(as_user("bob", method, &path))
            .await
            .is_problem(404, "lora-not-found", &[]);
    }
    let listed = server
        .send(as_user("bob", Method::GET, "/loras"))
        .await
        .json();
    assert_eq!(listed["items"], json!([]));
}
