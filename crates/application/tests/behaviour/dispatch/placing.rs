use std::sync::Arc;

use atelier_domain::graph::{ClassPattern, NodePolicy};
use atelier_domain::ports::{BlobStore as _, InputRepo as _, LoraCatalogue};
use atelier_domain::run::{RunFailureCode, RunStatus};
use atelier_testkit::{PromptScript, ScriptedComfy, Then, wait_until};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{House, LONG, Running, graph_with, plain_graph, png};

fn loading(name: &str) -> Value {
    graph_with("LoadImage", &json!({"image": name}))
}

#[tokio::test(start_paused = true)]
async fn a_picture_is_on_the_backend_before_the_graph_is() {
    let house = House::new();
    let input = house.picture("cat.png", 1).await;

    let run = house.execute(&loading("cat.png")).await;

    assert_eq!(run.status, RunStatus::Completed);
    let placed = house.comfy.inputs();
    assert_eq!(placed.len(), 1);
    assert_eq!(placed[&input.comfyui_path], Bytes::from(png(1)));
}

#[tokio::test(start_paused = true)]
async fn each_backend_gets_the_pictures_of_its_own_runs() {
    let house = House::new();
    let (one, two) = (ScriptedComfy::new(), ScriptedComfy::new());
    let input = house.picture("cat.png", 1).await;
    // Neither ends, so that both have one.
    for comfy in [&one, &two] {
        for _ in 0..8 {
            comfy.script(PromptScript::taken(Then::Runs));
        }
    }
    for _ in 0..8 {
        house.submit(&loading("cat.png")).await.unwrap();
    }
    let worker = Running::begin(house.worker_with(&[("one", &one), ("two", &two)]));

    one.wait_for_submissions(1).await;
    two.wait_for_submissions(1).await;

    assert!(one.inputs().contains_key(&input.comfyui_path));
    assert!(two.inputs().contains_key(&input.comfyui_path));
    worker.kill().await;
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_was_deleted_while_its_run_waited_is_still_there_for_it() {
    let house = House::new();
    let input = house.picture("cat.png", 1).await;
    let run = house.submit(&loading("cat.png")).await.unwrap();
    let inputs = house.store.inputs();
    let deleted = inputs
        .delete(&house.actor, input.id, input.created_at)
        .await;
    assert!(deleted.unwrap());

    let worker = house.start();
    let run = house.ended(run.id).await;

    assert_eq!(run.status, RunStatus::Completed);
    assert!(house.comfy.inputs().contains_key(&input.comfyui_path));
    wait_until("the cleaning", LONG, async || {
        house.blobs.bytes_of(&input.blob_key).is_none()
    })
    .await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_picture_whose_bytes_are_gone_fails_the_run() {
    let house = House::new();
    let input = house.picture("cat.png", 1).await;
    house.blobs.delete(&input.blob_key).await.unwrap();

    let run = house.execute(&loading("cat.png")).await;

    assert_eq!(run.error.unwrap().code, RunFailureCode::InputMissing);
    assert!(house.comfy.submissions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_moment_only_delays_the_run() {
    let house = House::new();
    house.picture("cat.png", 1).await;
    let run = house.submit(&loading("cat.png")).await.unwrap();
    house.blobs.outage().begin();
    let worker = house.start();
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;
    assert!(house.comfy.submissions().is_empty());

    house.blobs.outage().end();

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_node_is_refused_by_now_fails_before_it_is_submitted() {
    let mut house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap();
    house.policy = Arc::new(NodePolicy::new(
        vec![ClassPattern::parse("Empty*").unwrap()],
        None,
    ));

    let worker = house.start();
    let run = house.ended(run.id).await;
    worker.stop().await;

    let error = run.error.unwrap();
    assert_eq!(error.code, RunFailureCode::NodeRefused);
    assert_eq!(error.node_id.as_deref(), Some("1"));
    assert_eq!(error.node_type.as_deref(), Some("EmptyImage"));
    assert!(house.comfy.submissions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_file_that_only_the_backend_knows_to_be_one_is_none_of_the_runs() {
    let house = House::new();
    // Nothing was known of the class when the run was taken in.
    let odd = graph_with("OddLoader", &json!({"first": "theirs.png"}));
    let run = house.submit(&odd).await.unwrap();
    house.comfy.set_catalogue(LoraCatalogue {
        input_files: [("OddLoader".to_owned(), "first".to_owned())].into(),
        ..LoraCatalogue::default()
    });

    let worker = house.start();
    let run = house.ended(run.id).await;
    worker.stop().await;

    let error = run.error.unwrap();
    assert_eq!(error.code, RunFailureCode::InputMissing);
    assert_eq!(error.node_id.as_deref(), Some("7"));
    assert!(house.comfy.submissions().is_empty());
}
