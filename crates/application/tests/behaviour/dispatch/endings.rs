use atelier_domain::ports::{NodeRejection, PromptRejection};
use atelier_domain::run::{RunFailureCode, RunStatus};
use atelier_testkit::{PromptScript, SubmitAnswer};
use serde_json::json;

use crate::support::{House, RecordingQueue, Running, plain_graph};

#[tokio::test(start_paused = true)]
async fn a_run_ends_with_its_picture_in_the_store() {
    let house = House::new();

    let run = house.execute(&plain_graph()).await;

    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(run.attempt, 1);
    assert_eq!(run.comfyui_prompt_id, Some(run.id.to_string()));
    let [output] = run.outputs.as_slice() else {
        panic!("{:?}", run.outputs)
    };
    assert_eq!(
        (output.content_type.as_str(), output.dimensions),
        ("image/png", Some([1, 1]))
    );
    let folder = format!("user-{}/runs/{}/", house.actor.user_id(), run.id);
    assert!(
        output.blob_key.as_str().starts_with(&folder),
        "{}",
        output.blob_key
    );
    let bytes = house.blobs.bytes_of(&output.blob_key).unwrap();
    assert_eq!(output.size_bytes, bytes.len() as u64);
    assert_eq!(output.sha256, atelier_testkit::build::sha256_of(&bytes));
}

#[tokio::test(start_paused = true)]
async fn the_backend_gets_the_runs_id_and_where_it_comes_from() {
    let house = House::new();

    let run = house.execute(&plain_graph()).await;

    let submissions = house.comfy.submissions();
    let [submission] = submissions.as_slice() else {
        panic!("{submissions:?}")
    };
    assert_eq!(submission.run_id, run.id);
    assert_eq!(submission.client_id, "client-1");
    let provenance = &submission.extra_data["extra_pnginfo"]["atelier"];
    assert_eq!(provenance["run_id"], json!(run.id));
    assert_eq!(provenance["workflow_id"], json!(run.workflow_id));
}

#[tokio::test(start_paused = true)]
async fn a_quick_run_costs_a_claim_and_its_end() {
    let house = House::new();
    let queue = RecordingQueue::new(house.store.queue());
    let run = house.submit(&plain_graph()).await.unwrap();

    let worker = Running::begin(house.worker_on(std::sync::Arc::new(queue.clone())));
    house.ended(run.id).await;
    worker.stop().await;

    assert_eq!(queue.said(), ["claim", "complete"]);
    let run = house.run(run.id).await;
    assert_eq!(run.comfyui_prompt_id, Some(run.id.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_failed_node_is_told_in_our_words() {
    let house = House::new();
    house.comfy.script(PromptScript::fails(
        "2",
        "SaveImage",
        "torch.OutOfMemoryError",
    ));

    let run = house.execute(&plain_graph()).await;

    assert_eq!(run.status, RunStatus::Failed);
    let error = run.error.unwrap();
    assert_eq!(error.code, RunFailureCode::ExecutionFailed);
    assert_eq!(
        (error.node_id.as_deref(), error.node_type.as_deref()),
        (Some("2"), Some("SaveImage"))
    );
    assert!(error.message.contains("out of memory"), "{}", error.message);
}

#[tokio::test(start_paused = true)]
async fn nothing_that_the_backend_says_reaches_the_owner_word_for_word() {
    let house = House::new();
    let secret = "/home/other/user-9999/secret.safetensors";
    house.comfy.script(PromptScript::fails("2", secret, secret));
    house
        .comfy
        .script(PromptScript::refused(SubmitAnswer::Rejected(
            PromptRejection {
                kind: secret.to_owned(),
                nodes: vec![NodeRejection {
                    node_id: "2".to_owned(),
                    class_type: secret.to_owned(),
                    kind: secret.to_owned(),
                    input_name: None,
                }],
            },
        )));

    for _ in 0..2 {
        let error = house.execute(&plain_graph()).await.error.unwrap();
        assert!(!error.message.contains("/home"), "{}", error.message);
        assert_eq!(error.node_type.as_deref(), Some("SaveImage"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_refused_graph_fails_at_once_and_names_the_input() {
    let house = House::new();
    house
        .comfy
        .script(PromptScript::refused(SubmitAnswer::Rejected(
            PromptRejection {
                kind: "prompt_outputs_failed_validation".to_owned(),
                nodes: vec![NodeRejection {
                    node_id: "1".to_owned(),
                    class_type: "EmptyImage".to_owned(),
                    kind: "value_smaller_than_min".to_owned(),
                    input_name: Some("width".to_owned()),
                }],
            },
        )));

    let run = house.execute(&plain_graph()).await;

    assert_eq!((run.status, run.attempt), (RunStatus::Failed, 1));
    let error = run.error.unwrap();
    assert_eq!(error.code, RunFailureCode::PromptRejected);
    assert!(
        error.message.contains("\"width\": the value is too small"),
        "{}",
        error.message
    );
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_lost_outputs_is_stopped_and_failed() {
    let house = House::new();
    house.comfy.script(PromptScript {
        answer: SubmitAnswer::Taken {
            dropped: vec![NodeRejection {
                node_id: "2".to_owned(),
                class_type: "SaveImage".to_owned(),
                kind: "required_input_missing".to_owned(),
                input_name: Some("images".to_owned()),
            }],
        },
        ..PromptScript::taken(atelier_testkit::Then::Runs)
    });

    let run = house.execute(&plain_graph()).await;

    assert_eq!(run.error.unwrap().code, RunFailureCode::PromptRejected);
    assert_eq!(house.comfy.cancelled(), [run.id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn a_run_outlives_a_front_that_wants_other_credentials() {
    let house = House::new();
    house
        .comfy
        .script(PromptScript::refused(SubmitAnswer::Unauthorized(302)));

    let run = house.execute(&plain_graph()).await;

    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 2));
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_interrupt_fails_the_run() {
    use atelier_domain::ports::{PromptOutcome, PromptResult};
    let house = House::new();
    house
        .comfy
        .script(PromptScript::taken(atelier_testkit::Then::Ends(
            PromptResult {
                outcome: PromptOutcome::Interrupted,
                outputs: vec![house.comfy.put_image("2", "half.png", &b"half"[..])],
            },
        )));

    let run = house.execute(&plain_graph()).await;

    assert_eq!(run.error.unwrap().code, RunFailureCode::Interrupted);
    assert_eq!(run.outputs.len(), 1);
}
