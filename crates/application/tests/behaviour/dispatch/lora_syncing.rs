use atelier_domain::run::{NewRun, Run, RunFailureCode, RunStatus};
use atelier_testkit::build::{a_new_run, safetensors_bytes};
use atelier_testkit::{FolderBackdoor as _, PromptScript, Then, enqueue, random_id, wait_until};
use serde_json::{Value, json};

use crate::support::{House, LONG, graph_with, lora_graph, plain_graph};

/// Puts a graph into the queue that no use case would let through.
async fn smuggle(house: &House, graph: &Value) -> Run {
    let workflow = house.workflow(&plain_graph()).await;
    let new = NewRun {
        graph: atelier_domain::graph::GraphJson::from_trusted(graph.to_string()),
        ..a_new_run(workflow)
    };
    let run = enqueue(&house.store.runs(), &house.actor, new).await;
    let worker = house.start();
    let run = house.ended(run.id).await;
    worker.stop().await;
    run
}

#[tokio::test(start_paused = true)]
async fn the_lora_is_on_the_disk_before_the_backend_gets_the_graph() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let path = lora.content.unwrap().comfyui_path.to_string();

    let run = house.execute(&lora_graph("a.safetensors")).await;

    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(house.folder.listed()[&path], safetensors_bytes(1));
    let submitted = house.comfy.submissions()[0].graph.parse().unwrap();
    assert_eq!(submitted.node("7").unwrap().inputs()["lora_name"], path);
}

#[tokio::test(start_paused = true)]
async fn a_lora_that_cannot_be_brought_fails_the_run_before_it_is_submitted() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let run = house.submit(&lora_graph("a.safetensors")).await.unwrap();
    house.blobs.put(&lora.blob_key, safetensors_bytes(2));
    let worker = house.start();

    let run = house.ended(run.id).await;

    worker.stop().await;
    let error = run.error.unwrap();
    assert_eq!(error.code, RunFailureCode::LoraSyncFailed);
    assert!(
        error.message.contains("a.safetensors is damaged"),
        "{}",
        error.message
    );
    assert!(house.comfy.submissions().is_empty());
    assert!(house.folder.listed().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_written_fails_the_run_before_it_is_submitted() {
    let house = House::new();
    house.lora("a.safetensors", 1).await;
    house.folder.outage().begin();

    let run = house.execute(&lora_graph("a.safetensors")).await;

    assert_eq!(run.error.unwrap().code, RunFailureCode::LoraSyncFailed);
    assert!(house.comfy.submissions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_moment_only_delays_the_run() {
    let house = House::new();
    house.lora("a.safetensors", 1).await;
    house.blobs.outage().begin();
    let run = house.submit(&lora_graph("a.safetensors")).await.unwrap();
    let worker = house.start();
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    assert!(house.comfy.submissions().is_empty());

    house.blobs.outage().end();

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
}

#[tokio::test(start_paused = true)]
async fn a_graph_with_a_foreign_or_unknown_lora_is_never_submitted() {
    let house = House::new();
    let foreign = format!("user-{}/x.safetensors", random_id());
    house.offer(&["system.safetensors", &foreign]);
    for name in [
        foreign.as_str(),
        "no-such.safetensors",
        "../system.safetensors",
    ] {
        let run = smuggle(&house, &lora_graph(name)).await;

        let error = run.error.unwrap();
        assert_eq!(error.code, RunFailureCode::LoraMissing, "{name}");
        assert_eq!(error.node_id.as_deref(), Some("7"));
        assert!(!error.message.contains("user-"), "{}", error.message);
    }
    let tagged = graph_with("LoraTagLoader", &json!({"text": "<lora:system:1>"}));
    assert_eq!(
        smuggle(&house, &tagged).await.error.unwrap().code,
        RunFailureCode::LoraMissing
    );
    assert!(house.comfy.submissions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_system_lora_that_was_let_through_is_asked_for_at_dispatch() {
    let house = House::new();
    house.comfy.outage().begin();
    let run = house
        .submit(&lora_graph("system.safetensors"))
        .await
        .unwrap();
    house.comfy.outage().end();
    house.offer(&["system.safetensors"]);
    let worker = house.start();

    let run = house.ended(run.id).await;

    worker.stop().await;
    assert_eq!(run.status, RunStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn runs_that_need_the_same_lora_copy_it_once() {
    let house = House::new();
    house.lora("a.safetensors", 1).await;
    let mut runs = Vec::new();
    for _ in 0..4 {
        runs.push(house.submit(&lora_graph("a.safetensors")).await.unwrap());
    }
    let worker = house.start();

    for run in runs {
        assert_eq!(house.ended(run.id).await.status, RunStatus::Completed);
    }

    worker.stop().await;
    assert_eq!(house.folder.installs(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_loader_that_matches_loosely_gets_no_file_that_was_removed_since() {
    let house = House::new();
    house.offer(&["system.safetensors"]);
    house.catalogue.refresh().await;
    let rows = json!({"lora_1": {"on": true, "lora": "system.safetensors", "strength": 1.0}});
    let graph = graph_with("Power Lora Loader (rgthree)", &rows);
    assert_eq!(house.execute(&graph).await.status, RunStatus::Completed);
    house.offer(&[]);

    let run = house.execute(&graph).await;

    assert_eq!(run.error.unwrap().code, RunFailureCode::LoraMissing);
    assert_eq!(house.comfy.submissions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_bytes_that_are_copied_are_progress() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&lora_graph("a.safetensors")).await.unwrap();
    let worker = house.start();

    let told = async || house.run(run.id).await.progress.lora_bytes_total.is_some();
    wait_until("the copy to be told", LONG, told).await;

    let progress = house.run(run.id).await.progress;
    worker.stop().await;
    let size = lora.content.unwrap().file_size;
    assert_eq!(progress.lora_bytes_total, Some(size));
    assert_eq!(progress.lora_bytes_done, Some(size));
    assert!(progress.nodes_done < progress.nodes_total);
}
