use std::sync::Arc;

use atelier_application::runs::{RetryRequest, RetryRunError, SubmitRequest, SubmitRunError};
use atelier_domain::graph::{ClassPattern, NodePolicy};
use atelier_domain::ports::{InputRepo as _, LoraCatalogue, MockRunRepo};
use atelier_testkit::build::an_actor;
use serde_json::{Value, json};

use crate::support::{House, enqueued, graph_with, plain_graph};

const IMAGE: &str = "/workflow_json/7/inputs/image";

fn loading(name: &str) -> Value {
    graph_with("LoadImage", &json!({"image": name, "upload": "image"}))
}

async fn pointers(house: &House, graph: &Value) -> Vec<String> {
    let violations = house.refusal(graph).await;
    violations.into_iter().map(|fault| fault.pointer).collect()
}

#[tokio::test(start_paused = true)]
async fn a_picture_is_found_by_name_and_by_path_and_named_exactly() {
    let house = House::new();
    let owner = house.actor.user_id();
    let older = house.picture("cat.png", 1).await;
    let newer = house.picture("cat.png", 2).await;
    for (value, meant) in [
        ("cat.png".to_owned(), &newer),
        ("cat.png [input]".to_owned(), &newer),
        (format!("user-{owner}/cat.png"), &newer),
        (older.comfyui_path.to_string(), &older),
    ] {
        house.submit(&loading(&value)).await.unwrap();

        let claimed = house.claimed().await;
        assert_eq!(claimed.input_ids, [meant.id], "{value}");
        let graph = claimed.graph.parse().unwrap();
        let inputs = graph.node("7").unwrap().inputs();
        assert_eq!(inputs["image"], json!(meant.comfyui_path.as_str()));
        assert_eq!(inputs["upload"], json!("image"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_picture_that_is_named_twice_is_needed_once() {
    let house = House::new();
    let input = house.picture("cat.png", 1).await;
    let mut graph = loading("cat.png");
    graph["8"] = json!({"class_type": "LoadImageMask", "inputs": {
        "image": input.comfyui_path.as_str(), "channel": "red"}});

    house.submit(&graph).await.unwrap();

    assert_eq!(house.claimed().await.input_ids, [input.id]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_ones_own_never_gets_into_the_queue() {
    let house = House::new();
    let stranger = House {
        actor: an_actor(),
        ..House::new()
    };
    let foreign = stranger.picture("theirs.png", 1).await;
    house.picture("mine.png", 1).await;
    let submissions = atelier_application::runs::SubmitRun {
        // A mock without expectations: putting anything into the queue would panic.
        runs: Arc::new(MockRunRepo::new()),
        ..house.submissions()
    };
    for value in [
        "theirs.png",
        foreign.comfyui_path.as_str(),
        "example.png",
        "sub/mine.png",
        "../mine.png",
        "mine.png [output]",
        "https://a.example/mine.png",
        "file:///etc/passwd",
    ] {
        let workflow = house.workflow(&loading(value)).await;
        let refused = submissions
            .execute(&house.actor, workflow, SubmitRequest::default())
            .await;
        let Err(SubmitRunError::Invalid(violations)) = refused else {
            panic!("not refused: {value} {refused:?}")
        };
        assert_eq!(violations.len(), 1, "{violations:?}");
        assert_eq!(violations[0].pointer, IMAGE, "{value}");
    }
}

#[tokio::test(start_paused = true)]
async fn inputs_that_only_a_backend_knows_to_name_files_are_confined_too() {
    let house = House::new();
    let odd = graph_with("OddLoader", &json!({"first": "theirs.png"}));
    house.comfy.set_catalogue(LoraCatalogue {
        input_files: [("OddLoader".to_owned(), "first".to_owned())].into(),
        ..LoraCatalogue::default()
    });
    house.catalogue.refresh().await;

    assert_eq!(
        pointers(&house, &odd).await,
        ["/workflow_json/7/inputs/first"]
    );
}

#[tokio::test(start_paused = true)]
async fn a_deleted_picture_is_no_longer_found() {
    let house = House::new();
    let input = house.picture("cat.png", 1).await;
    let inputs = house.store.inputs();
    let deleted = inputs
        .delete(&house.actor, input.id, input.created_at)
        .await;
    assert!(deleted.unwrap());

    assert_eq!(pointers(&house, &loading("cat.png")).await, [IMAGE]);
}

#[tokio::test(start_paused = true)]
async fn nodes_that_may_not_be_used_are_told_at_their_class() {
    let mut house = House::new();
    let eval = graph_with("SRL Eval", &json!({"code": "return 1"}));

    assert_eq!(
        pointers(&house, &eval).await,
        ["/workflow_json/7/class_type"]
    );

    house.policy = Arc::new(NodePolicy::new(
        vec![ClassPattern::parse("Save*").unwrap()],
        None,
    ));
    let refused = pointers(&house, &eval).await;
    assert_eq!(refused, ["/workflow_json/2/class_type"]);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_repeated_on_the_very_same_picture() {
    let house = House::new();
    let input = house.picture("cat.png", 1).await;
    house.submit(&loading("cat.png")).await.unwrap();
    let earlier = house.complete_next().await;
    house.picture("cat.png", 2).await;

    let retried = house.retries();
    let again = retried
        .execute(&house.actor, earlier, RetryRequest::default())
        .await;

    enqueued(again.unwrap());
    assert_eq!(house.claimed().await.input_ids, [input.id]);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_picture_or_node_is_gone_is_not_repeated() {
    let mut house = House::new();
    let input = house.picture("cat.png", 1).await;
    house.submit(&loading("cat.png")).await.unwrap();
    let with_picture = house.complete_next().await;
    house.submit(&plain_graph()).await.unwrap();
    let plain = house.complete_next().await;
    let inputs = house.store.inputs();
    let deleted = inputs
        .delete(&house.actor, input.id, input.created_at)
        .await;
    assert!(deleted.unwrap());
    house.policy = Arc::new(NodePolicy::new(
        vec![ClassPattern::parse("EmptyImage").unwrap()],
        None,
    ));

    for (run, expected) in [
        (with_picture, vec!["/workflow_json/1/class_type", IMAGE]),
        (plain, vec!["/workflow_json/1/class_type"]),
    ] {
        let refused = house
            .retries()
            .execute(&house.actor, run, RetryRequest::default())
            .await;
        let Err(RetryRunError::Invalid(violations)) = refused else {
            panic!("not refused: {refused:?}")
        };
        let pointers: Vec<_> = violations.iter().map(|fault| &fault.pointer).collect();
        assert_eq!(pointers, expected);
    }
}
