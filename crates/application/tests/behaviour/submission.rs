use atelier_application::runs::{SubmitRequest, SubmitRunError};
use atelier_domain::ids::WorkflowId;
use atelier_domain::ports::WorkflowRepo as _;
use atelier_domain::run::RunStatus;
use atelier_testkit::build::an_actor;
use atelier_testkit::random_id;
use serde_json::{Value, json};

use crate::support::{House, enqueued, graph_with, lora_graph, plain_graph};

fn params(value: &Value) -> SubmitRequest<'static> {
    SubmitRequest {
        input_params: value.as_object().unwrap().clone(),
        ..SubmitRequest::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_gets_the_values_a_folder_of_its_own_and_a_place_in_the_queue() {
    let house = House::new();
    let workflow = house.workflow(&plain_graph()).await;

    let run = house
        .submissions()
        .execute(&house.actor, workflow, params(&json!({"width": 16})))
        .await
        .map(enqueued)
        .unwrap();

    assert_eq!(run.status, RunStatus::Pending);
    assert_eq!(run.progress.nodes_total, 2);
    let graph = house.queued_graph().await;
    assert_eq!(graph.node("1").unwrap().inputs()["width"], 16);
    let prefix = format!("user-{}/{}/plain", house.actor.user_id(), run.id);
    assert_eq!(graph.node("2").unwrap().inputs()["filename_prefix"], prefix);
}

#[tokio::test(start_paused = true)]
async fn the_stored_workflow_stays_as_it_was() {
    let house = House::new();
    house.lora("a.safetensors", 1).await;
    let workflow = house.workflow(&lora_graph("a.safetensors")).await;
    let before = house
        .store
        .workflows()
        .get(&house.actor, workflow)
        .await
        .unwrap();

    house
        .submissions()
        .execute(&house.actor, workflow, params(&json!({"width": 32})))
        .await
        .unwrap();

    let after = house
        .store
        .workflows()
        .get(&house.actor, workflow)
        .await
        .unwrap();
    assert_eq!(after, before);
}

#[tokio::test(start_paused = true)]
async fn a_workflow_that_nobody_shows_us_is_not_there() {
    let house = House::new();
    let private = house.workflow_of(&an_actor(), &plain_graph(), false).await;

    for id in [private, WorkflowId::new(random_id())] {
        let refused = house
            .submissions()
            .execute(&house.actor, id, SubmitRequest::default())
            .await;
        assert!(
            matches!(refused, Err(SubmitRunError::WorkflowNotFound)),
            "{refused:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_public_workflow_runs_with_ones_own_loras() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let public = house
        .workflow_of(&an_actor(), &lora_graph("a.safetensors"), true)
        .await;

    house
        .submissions()
        .execute(&house.actor, public, SubmitRequest::default())
        .await
        .unwrap();

    let path = lora.content.unwrap().comfyui_path.to_string();
    assert_eq!(
        house.queued_graph().await.node("7").unwrap().inputs()["lora_name"],
        path
    );
}

#[tokio::test(start_paused = true)]
async fn everything_that_is_wrong_is_told_at_once() {
    let house = House::new();
    let mut graph = lora_graph("user-99999999-2222-4333-8444-55555555abcd/x.safetensors");
    graph["8"] = json!({"class_type": "LoadImage", "inputs": {"image": "../secret.png"}});
    graph["2"]["inputs"]["filename_prefix"] = json!("/etc/x");
    let workflow = house.workflow(&graph).await;

    let refused = house
        .submissions()
        .execute(
            &house.actor,
            workflow,
            params(&json!({"no_such_input": 1, "width": 16})),
        )
        .await;

    let Err(SubmitRunError::Invalid(violations)) = refused else {
        panic!("not refused: {refused:?}")
    };
    let pointers: Vec<&str> = violations
        .iter()
        .map(|fault| fault.pointer.as_str())
        .collect();
    assert_eq!(
        pointers,
        [
            "/input_params/no_such_input",
            "/workflow_json/7/inputs/lora_name",
            "/workflow_json/8/inputs/image",
            "/workflow_json/2/inputs/filename_prefix",
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn a_lora_from_the_parameters_is_judged_like_one_from_the_graph() {
    let house = House::new();
    house.lora("a.safetensors", 1).await;
    let workflow = house.workflow(&lora_graph("a.safetensors")).await;

    let refused = house
        .submissions()
        .execute(
            &house.actor,
            workflow,
            params(&json!({"7.lora_name": "../../etc/passwd"})),
        )
        .await;

    let Err(SubmitRunError::Invalid(violations)) = refused else {
        panic!("not refused: {refused:?}")
    };
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert_eq!(violations[0].pointer, "/workflow_json/7/inputs/lora_name");
}

#[tokio::test(start_paused = true)]
async fn a_file_of_another_user_is_refused_in_any_input() {
    let house = House::new();
    let other = an_actor().user_id();
    let graph = graph_with(
        "SomeNode",
        &json!({"anything": format!("user-{other}/x.png")}),
    );

    let violations = house.refusal(&graph).await;

    assert_eq!(violations[0].pointer, "/workflow_json/7/inputs/anything");
}
