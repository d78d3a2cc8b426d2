//! What would become of a run, without running.

use actix_web::http::Method;
use atelier_domain::workflow::NewWorkflow;
use atelier_testkit::build::{a_graph_with_lora, a_workflow, safetensors_bytes};
use serde_json::{Value, json};

use crate::support::{World, as_user, form, workflow_path};

fn with_lora(name: &str) -> NewWorkflow {
    NewWorkflow {
        workflow_json: a_graph_with_lora(name),
        ..a_workflow()
    }
}

#[actix_web::test]
async fn a_workflow_is_looked_at_without_running() {
    let world = World::new();
    world.comfy.offer_classes([
        "CLIPTextEncode",
        "EmptyLatentImage",
        "KSampler",
        "LoraLoader",
        "SaveImage",
        "VAEDecode",
    ]);
    let server = world.server().await;
    let bytes = safetensors_bytes(1);
    let (content_type, body) = form(&[("name=\"file\"; filename=\"a.safetensors\"", &bytes)]);
    let request = as_user("alice", Method::POST, "/loras")
        .insert_header(("Content-Type", content_type))
        .set_payload(body);
    let lora = server.send(request).await.json();
    let workflow = world.keep(&world.alice, with_lora("a.safetensors")).await;

    let answer = server
        .get(&format!("{}/preflight", workflow_path(workflow.id)))
        .await;

    assert_eq!(answer.status, 200, "{answer:?}");
    let told = answer.json();
    assert_eq!(told["faults"], json!([]), "{told}");
    let found = &told["loras"][0];
    assert_eq!(found["class_type"], "LoraLoader");
    assert_eq!(found["value"], "a.safetensors");
    assert!(
        found["pointer"]
            .as_str()
            .unwrap()
            .starts_with("/workflow_json/")
    );
    assert_eq!(
        found["resolution"],
        json!({
            "kind": "own",
            "lora_id": lora["id"],
            "filename": "a.safetensors",
            "version": 1,
            "comfyui_path": lora["comfyui_path"],
            "file_size": bytes.len(),
            "base_model": "SD 1.x"
        })
    );
    let backend = &told["backends"][0];
    assert_eq!(
        (
            &backend["name"],
            &backend["is_known"],
            &backend["bytes_to_sync"]
        ),
        (&json!("comfyui"), &json!(true), &json!(bytes.len()))
    );
    let missing = backend["missing_classes"].as_array().unwrap();
    assert!(
        missing
            .iter()
            .any(|class| class["name"] == "CheckpointLoaderSimple"),
        "{told}"
    );
    assert_eq!(
        (&backend["can_run"], &told["can_run"]),
        (&json!(false), &json!(false))
    );
    assert_eq!(server.get("/runs").await.json()["items"], json!([]));
}

#[actix_web::test]
async fn a_lora_that_is_not_ones_own_is_a_fault_at_its_place() {
    let world = World::new();
    let server = world.server().await;
    let workflow = world
        .keep(&world.alice, with_lora("nobodys.safetensors"))
        .await;

    let told = server
        .get(&format!("{}/preflight", workflow_path(workflow.id)))
        .await
        .json();

    assert_eq!(told["can_run"], false);
    assert_eq!(told["faults"][0]["pointer"], told["loras"][0]["pointer"]);
    assert_eq!(told["loras"][0]["resolution"], Value::Null);
}

#[actix_web::test]
async fn a_workflow_that_one_does_not_see_is_404() {
    let world = World::new();
    let server = world.server().await;
    let workflow = world.keep(&world.alice, a_workflow()).await;
    let path = format!("{}/preflight", workflow_path(workflow.id));

    server
        .send(as_user("bob", Method::GET, &path))
        .await
        .is_problem(404, "workflow-not-found", &[]);
}
