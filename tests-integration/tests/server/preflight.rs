//! What would become of a run, told without running.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::client::{Client, id_of};
use atelier_tests_integration::lora_file::LoraFile;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::{CHECKPOINT, with_lora, with_node};
use serde_json::{Value, json};

use crate::house::{ATELIER, SYSTEM_LORA, house};

/// How long backends may take to be known, and to be told of.
const PATIENCE: Duration = Duration::from_mins(1);

const STYLE: &str = "style.safetensors";

async fn preflight(client: &Client, workflow: &str) -> Value {
    let path = format!("/workflows/{workflow}/preflight");
    client.get(&path).await.expect(200)
}

/// The answer once every backend has told what it offers.
async fn preflight_of(client: &Client, graph: &Value) -> Value {
    let workflow = client.create_workflow(graph, false).await;
    let mut last = Value::Null;
    wait_until("every backend to be known", PATIENCE, async || {
        last = preflight(client, &workflow).await;
        let backends = last["backends"].as_array().expect("a list");
        !backends.is_empty() && backends.iter().all(|backend| backend["is_known"] == true)
    })
    .await;
    last
}

fn backend<'a>(preflight: &'a Value, name: &str) -> &'a Value {
    let backends = preflight["backends"].as_array().expect("a list");
    let mut named = backends.iter().filter(|backend| backend["name"] == name);
    named.next().expect("the backend is told")
}

/// The pointers of a list of what is wrong.
fn pointers(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list");
    let pointers = list.iter().map(|entry| entry["pointer"].as_str());
    pointers.collect::<Option<_>>().expect("each has one")
}

#[tokio::test(flavor = "multi_thread")]
async fn loras_are_told_node_by_node() {
    let client = house().await.server.client();
    let lora = client.add_lora(STYLE, 1).await;
    let mut graph = with_lora(STYLE);
    for (node, name) in [("11", SYSTEM_LORA), ("12", "nobody-has-this.safetensors")] {
        graph[node] = graph["10"].clone();
        graph[node]["inputs"]["lora_name"] = json!(name);
    }

    let told = preflight_of(&client, &graph).await;

    let loras = told["loras"].as_array().expect("a list");
    let of = |node: &str| {
        let found = loras.iter().find(|entry| entry["node_id"] == node);
        found.expect("each node is told")
    };
    assert_eq!(loras.len(), 3, "{told}");
    assert_eq!(of("10")["pointer"], "/workflow_json/10/inputs/lora_name");
    assert_eq!(of("10")["class_type"], "LoraLoader");
    assert_eq!(of("10")["value"], STYLE);
    assert_eq!(of("10")["resolution"]["kind"], "own", "{told}");
    assert_eq!(of("10")["resolution"]["lora_id"], lora["id"], "{told}");
    assert_eq!(
        of("10")["resolution"]["comfyui_path"],
        lora["comfyui_path"],
        "{told}"
    );
    assert_eq!(of("11")["resolution"]["kind"], "system", "{told}");
    assert_eq!(of("12")["resolution"], Value::Null, "{told}");
    assert_eq!(told["can_run"], false);
    assert_eq!(
        pointers(&told["faults"]),
        ["/workflow_json/12/inputs/lora_name"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_to_sync_are_told_until_they_are_there() {
    let site = Site::new(ATELIER).await;
    let server = site.serve();
    let client = server.client();
    let lora = client.add_lora(STYLE, 1).await;
    let graph = with_lora(STYLE);

    let before = preflight_of(&client, &graph).await;

    assert_eq!(before["can_run"], true, "{before}");
    assert_eq!(before["faults"], json!([]));
    assert_eq!(before["warnings"], json!([]));
    assert_eq!(before["backends"].as_array().map(Vec::len), Some(1));
    assert_eq!(before["backends"][0]["bytes_to_sync"], lora["file_size"]);
    assert_eq!(before["backends"][0]["can_run"], true);
    // Looking is all that was done.
    assert_eq!(site.backend.prompts().await, 0);
    let runs = "select count(*) from comfyui_workflow_runs";
    assert_eq!(site.database.count(runs).await, 0);
    let run = client.run_to_the_end(&graph).await;
    assert_eq!(run["status"], "completed", "{run}");
    let workflow = client.create_workflow(&graph, false).await;
    wait_until("nothing to be left to copy", PATIENCE, async || {
        let after = preflight(&client, &workflow).await;
        after["backends"][0]["bytes_to_sync"] == 0
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_each_backend_lacks_is_told_of_each() {
    let other_checkpoint = Backend::start_with(|options| {
        options.checkpoints = vec!["another.safetensors".to_owned()];
    })
    .await;
    let site = Site::new(ATELIER).await;
    let server = site
        .setup()
        .with_backends(&[("whole", &site.backend), ("bare", &other_checkpoint)])
        .start();
    let client = server.client();
    client.add_lora(STYLE, 1).await;

    let told = preflight_of(&client, &with_lora(STYLE)).await;

    let model = json!([{"pointer": "/workflow_json/4/inputs/ckpt_name", "name": CHECKPOINT}]);
    assert_eq!(backend(&told, "whole")["missing_models"], json!([]));
    assert_eq!(backend(&told, "bare")["missing_models"], model, "{told}");
    assert_eq!(backend(&told, "bare")["can_run"], false);
    assert_eq!(told["can_run"], true, "{told}");

    let graph = with_node(
        "NodeOfNoPack",
        &json!({"model": ["4", 0], "clip": ["4", 1]}),
    );
    let told = preflight_of(&client, &graph).await;

    let class = json!([{"pointer": "/workflow_json/10/class_type", "name": "NodeOfNoPack"}]);
    for name in ["whole", "bare"] {
        assert_eq!(backend(&told, name)["missing_classes"], class, "{told}");
        assert_eq!(backend(&told, name)["can_run"], false, "{told}");
    }
    assert_eq!(told["can_run"], false, "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lora_for_another_family_than_the_checkpoints_is_warned_of() {
    const XL: &str = "xl.safetensors";
    let site = Site::new(ATELIER).await;
    let metadata = json!({"modelspec.architecture": "stable-diffusion-xl-v1-base"});
    let checkpoint = LoraFile::new(&metadata, &[("model", &[4])], |_| 0);
    let folder = site.backend.folder.join("models/checkpoints");
    std::fs::create_dir_all(&folder).expect("there is room");
    std::fs::write(folder.join(XL), checkpoint.bytes).expect("there is room");
    let server = site.serve();
    let client = server.client();
    client.add_lora("sd1.safetensors", 1).await;
    let fitting = LoraFile::new(&metadata, &[("weights", &[4])], |_| 1);
    let fitting = client
        .upload_lora("xl.safetensors", fitting.bytes)
        .await
        .expect(201);
    assert_eq!(fitting["base_model"], "SDXL", "{fitting}");
    let graph = |lora: &str| {
        let mut graph = with_lora(lora);
        graph["4"]["inputs"]["ckpt_name"] = json!(XL);
        graph
    };

    let other = preflight_of(&client, &graph("sd1.safetensors")).await;
    let same = preflight_of(&client, &graph("xl.safetensors")).await;
    let unknown = preflight_of(&client, &with_lora("sd1.safetensors")).await;

    assert_eq!(
        pointers(&other["warnings"]),
        ["/workflow_json/10/inputs/lora_name"]
    );
    let detail = other["warnings"][0]["detail"].as_str().expect("a detail");
    assert!(
        detail.contains("SD 1.x") && detail.contains("SDXL"),
        "{detail}"
    );
    // It is a warning: whoever wants it may run it.
    assert_eq!(other["can_run"], true, "{other}");
    assert_eq!(same["warnings"], json!([]));
    // This checkpoint's file says nothing of itself.
    assert_eq!(unknown["warnings"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_are_told_with_what_they_are_otherwise() {
    let client = house().await.server.client();
    let mut graph = with_lora(SYSTEM_LORA);
    graph["6"]["_meta"] = json!({"parameters": {"prompt": "text"}});
    graph["10"]["_meta"] = json!({"parameters": {"style": "lora_name"}});

    let told = preflight_of(&client, &graph).await;

    let parameters = told["parameters"].as_array().expect("a list");
    let of = |name: &str| {
        let found = parameters
            .iter()
            .find(|parameter| parameter["name"] == name);
        found.expect("it is told")
    };
    assert_eq!(parameters.len(), 2, "{told}");
    assert_eq!(
        of("prompt"),
        &json!({"name": "prompt", "node_id": "6", "input": "text", "default": "a photo of a cat"})
    );
    assert_eq!(
        of("style"),
        &json!({"name": "style", "node_id": "10", "input": "lora_name", "default": SYSTEM_LORA})
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_looked_at_as_whoever_asks_would_run_it() {
    let server = &house().await.server;
    let (owner, guest) = (server.client(), server.client());
    let (own, guests) = (
        owner.add_lora(STYLE, 1).await,
        guest.add_lora(STYLE, 2).await,
    );
    let private = owner.create_workflow(&with_lora(STYLE), false).await;
    let public = owner.create_workflow(&with_lora(STYLE), true).await;

    let hidden = guest.get(&format!("/workflows/{private}/preflight")).await;
    let for_owner = preflight(&owner, &public).await;
    let for_guest = preflight(&guest, &public).await;
    let stranger = server.client();
    let for_stranger = preflight(&stranger, &public).await;

    hidden.expect_problem(404, "workflow-not-found");
    for (told, lora) in [(&for_owner, &own), (&for_guest, &guests)] {
        assert_eq!(
            told["loras"][0]["resolution"]["lora_id"],
            id_of(lora),
            "{told}"
        );
    }
    assert_eq!(for_stranger["can_run"], false);
    assert_eq!(
        pointers(&for_stranger["faults"]),
        ["/workflow_json/10/inputs/lora_name"]
    );
    let text = for_stranger.to_string();
    assert!(!text.contains(&owner.person().id.to_string()), "{text}");
}
