use atelier_domain::output::{
    BackendFile, BackendFolder, BackendOutput, BackendOutputContent, OutputKind,
};
use atelier_domain::run::{Run, RunFailureCode, RunStatus};
use atelier_testkit::{PromptScript, random_id};
use bytes::Bytes;
use serde_json::{Value, json};

use crate::support::{House, graph_with, plain_graph};

fn file(house: &House, subfolder: &str, filename: &str, folder: BackendFolder) -> BackendOutput {
    let file = BackendFile {
        filename: filename.to_owned(),
        subfolder: subfolder.to_owned(),
        folder,
    };
    house
        .comfy
        .put_file(&file, None, format!("{subfolder}/{filename}").into_bytes());
    BackendOutput {
        node_id: "2".to_owned(),
        key: "images".to_owned(),
        content: BackendOutputContent::File(file),
    }
}

async fn made(house: &House, graph: &Value, outputs: Vec<BackendOutput>) -> Run {
    house.comfy.script(PromptScript::succeeds(outputs));
    house.execute(graph).await
}

fn names(run: &Run) -> Vec<&str> {
    run.outputs
        .iter()
        .map(|output| output.filename.as_str())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn outputs_keep_their_order_and_equal_names_get_keys_of_their_own() {
    let house = House::new();
    let outputs = vec![
        file(&house, "a", "x.png", BackendFolder::Output),
        file(&house, "b", "x.png", BackendFolder::Output),
        file(&house, "", "y.mp4", BackendFolder::Output),
    ];

    let run = made(&house, &plain_graph(), outputs).await;

    assert_eq!(names(&run), ["x.png", "x.png", "y.mp4"]);
    let stored: Vec<Bytes> = run
        .outputs
        .iter()
        .map(|output| house.blobs.bytes_of(&output.blob_key).unwrap())
        .collect();
    assert_eq!(stored, ["a/x.png", "b/x.png", "/y.mp4"].map(Bytes::from));
    assert_eq!(run.outputs[2].kind, OutputKind::Video);
}

#[tokio::test(start_paused = true)]
async fn previews_count_only_where_nothing_is_saved() {
    let house = House::new();
    let preview = file(&house, "", "preview.png", BackendFolder::Temporary);
    let saved = file(&house, "", "saved.png", BackendFolder::Output);
    let echoed = file(&house, "", "echoed.png", BackendFolder::Input);

    let both = made(&house, &plain_graph(), vec![preview.clone(), saved, echoed]).await;
    let alone = made(&house, &plain_graph(), vec![preview]).await;

    assert_eq!(names(&both), ["saved.png"]);
    assert_eq!(names(&alone), ["preview.png"]);
}

#[tokio::test(start_paused = true)]
async fn texts_are_stored_as_files() {
    let house = House::new();
    let text = BackendOutput {
        node_id: "8".to_owned(),
        key: "text".to_owned(),
        content: BackendOutputContent::Text("grüezi".to_owned()),
    };

    let run = made(&house, &plain_graph(), vec![text]).await;

    let output = &run.outputs[0];
    assert_eq!(
        (output.filename.as_str(), output.kind),
        ("text-8.txt", OutputKind::Text)
    );
    assert_eq!(house.blobs.bytes_of(&output.blob_key).unwrap(), "grüezi");
}

#[tokio::test(start_paused = true)]
async fn what_lies_in_another_users_folder_is_not_brought_home() {
    let house = House::new();
    let foreign = format!("user-{}/run", random_id());
    let own = format!("user-{}/run", house.actor.user_id());
    let outputs = vec![
        file(&house, &foreign, "theirs.png", BackendFolder::Output),
        file(&house, &own, "mine.png", BackendFolder::Output),
    ];

    let run = made(&house, &plain_graph(), outputs).await;

    assert_eq!(names(&run), ["mine.png"]);
}

#[tokio::test(start_paused = true)]
async fn an_output_that_is_gone_fails_the_run() {
    let house = House::new();
    let kept = file(&house, "", "kept.png", BackendFolder::Output);
    let gone = file(&house, "", "gone.png", BackendFolder::Output);
    if let BackendOutputContent::File(file) = &gone.content {
        house.comfy.lose_file(file);
    }

    let run = made(&house, &plain_graph(), vec![kept, gone]).await;

    assert_eq!(run.error.as_ref().unwrap().code, RunFailureCode::OutputLost);
    assert_eq!(names(&run), ["kept.png"]);
}

#[tokio::test(start_paused = true)]
async fn a_graph_that_saves_and_leaves_nothing_has_failed() {
    let house = House::new();

    let run = made(&house, &plain_graph(), Vec::new()).await;

    assert_eq!(run.error.unwrap().code, RunFailureCode::NoOutputs);
}

#[tokio::test(start_paused = true)]
async fn a_graph_that_lists_no_outputs_may_leave_nothing() {
    let house = House::new();
    let mut graph = graph_with("CheckpointSave", &json!({"filename_prefix": "x"}));
    graph.as_object_mut().unwrap().remove("2");

    let run = made(&house, &graph, Vec::new()).await;

    assert_eq!(run.status, RunStatus::Completed);
    assert!(run.outputs.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_for_a_moment_loses_nothing() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap();
    house.blobs.outage().begin();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;
    tokio::time::sleep(std::time::Duration::from_secs(20)).await;

    house.blobs.outage().end();

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
    assert_eq!(house.comfy.submissions().len(), 1);
}
