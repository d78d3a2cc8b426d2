//! Submitting prompts, and asking where they stand.

use std::time::Duration;

use atelier_comfyui::ComfyOptions;
use atelier_comfyui_sim::Version;
use atelier_domain::output::{BackendFolder, BackendOutputContent};
use atelier_domain::ports::{ComfyClient, ComfyError, PromptOutcome, PromptState};
use serde_json::{Value, json};

use crate::support::{
    all_refusals, client, on_both_versions, quick_graph, sampling_graph, submission, world,
    world_with,
};

on_both_versions!(
    a_prompt_is_followed_to_its_picture,
    the_prompt_has_the_runs_id,
    waiting_prompts_know_how_many_are_before_them,
    a_missing_lora_is_a_rejection_without_the_others_names,
    an_unknown_class_is_a_rejection_that_names_the_node,
    outputs_that_were_dropped_are_told,
    a_prompt_that_nobody_knows_is_unknown,
    a_failing_node_is_named,
    a_lost_answer_is_no_lost_prompt,
    a_history_that_comes_late_is_waited_for,
    a_restart_forgets_prompts,
    a_failing_backend_is_a_server_error,
    a_prompt_too_large_is_a_rejection,
    odd_extra_data_does_no_harm,
    ids_that_are_none_are_not_asked_for,
);

async fn a_prompt_is_followed_to_its_picture(version: Version) {
    let world = world(version).await;

    let submitted = world
        .submit(&quick_graph("user-1/run-2/img"))
        .await
        .unwrap();
    let result = world.result(&submitted.prompt_id).await;

    assert_eq!(submitted.dropped, []);
    assert_eq!(result.outcome, PromptOutcome::Success);
    assert_eq!(result.outputs.len(), 1);
    assert_eq!(
        (
            result.outputs[0].node_id.as_str(),
            result.outputs[0].key.as_str()
        ),
        ("2", "images")
    );
    let BackendOutputContent::File(file) = &result.outputs[0].content else {
        unreachable!("a picture is a file")
    };
    assert_eq!(
        (file.subfolder.as_str(), file.folder),
        ("user-1/run-2", BackendFolder::Output)
    );
    assert!(file.filename.starts_with("img_0"), "{file:?}");
}

async fn the_prompt_has_the_runs_id(version: Version) {
    let world = world(version).await;
    let submission = submission(&quick_graph("x"), "c");
    let run_id = submission.run_id.to_string();

    let submitted = world.comfy.submit(submission).await.unwrap();

    assert_eq!(submitted.prompt_id, run_id);
    assert_eq!(world.simulator.submissions(&run_id), 1);
}

async fn waiting_prompts_know_how_many_are_before_them(version: Version) {
    let world = world_with(version, |options| {
        options.step_delay = Duration::from_millis(50);
    })
    .await;
    let first = world.submitted(&sampling_graph(1_000)).await;
    world
        .reaches(&first, |state| *state == PromptState::Running)
        .await;

    let second = world.submitted(&quick_graph("second")).await;
    let third = world.submitted(&quick_graph("third")).await;

    assert_eq!(
        world.state(&second).await,
        PromptState::Pending { ahead: 1 }
    );
    assert_eq!(world.state(&third).await, PromptState::Pending { ahead: 2 });
    let queue = world.comfy.queue().await.unwrap();
    assert_eq!(
        (queue.running, queue.pending),
        (vec![first], vec![second, third])
    );
}

async fn a_missing_lora_is_a_rejection_without_the_others_names(version: Version) {
    let world = world(version).await;
    let loras = world.folder.path().join("models/loras/user-2");
    std::fs::create_dir_all(&loras).unwrap();
    std::fs::write(loras.join("secret.safetensors"), "x").unwrap();
    let mut graph = sampling_graph(1);
    graph["10"] = json!({"class_type": "LoraLoader", "inputs": {
        "model": ["4", 0], "clip": ["4", 1], "lora_name": "mine.safetensors", "strength_model": 1.0, "strength_clip": 1.0
    }});
    graph["3"]["inputs"]["model"] = json!(["10", 0]);

    let error = world.submit(&graph).await.unwrap_err();

    assert!(
        !format!("{error:?} {error}").contains("secret"),
        "{error:?}"
    );
    let ComfyError::Rejected(rejection) = error else {
        unreachable!("{error:?}")
    };
    assert_eq!(rejection.kind, "prompt_outputs_failed_validation");
    let node = rejection
        .nodes
        .iter()
        .find(|node| node.node_id == "10")
        .unwrap();
    assert_eq!(
        (node.class_type.as_str(), node.kind.as_str()),
        ("LoraLoader", "value_not_in_list")
    );
    assert_eq!(node.input_name.as_deref(), Some("lora_name"));
}

async fn an_unknown_class_is_a_rejection_that_names_the_node(version: Version) {
    let world = world(version).await;
    let mut graph = quick_graph("x");
    graph["1"]["class_type"] = json!("NoSuchNode");

    let error = world.submit(&graph).await.unwrap_err();

    let ComfyError::Rejected(rejection) = error else {
        unreachable!("{error:?}")
    };
    match version {
        Version::V0_33_0 => {
            assert_eq!(rejection.kind, "missing_node_type");
            assert_eq!(rejection.nodes[0].node_id, "1");
            assert_eq!(rejection.nodes[0].class_type, "NoSuchNode");
        }
        // It says no more than that.
        Version::V0_3_64 => assert_eq!(rejection.kind, "invalid_prompt"),
    }
}

async fn outputs_that_were_dropped_are_told(version: Version) {
    let world = world(version).await;
    let mut graph = quick_graph("good");
    graph["3"] = json!({"class_type": "SaveImage", "inputs": {"filename_prefix": "bad"}});

    let submitted = world.submit(&graph).await.unwrap();

    assert_eq!(submitted.dropped.len(), 1, "{submitted:?}");
    assert_eq!(submitted.dropped[0].node_id, "3");
    assert_eq!(submitted.dropped[0].kind, "required_input_missing");
    assert_eq!(submitted.dropped[0].input_name.as_deref(), Some("images"));
}

async fn a_prompt_that_nobody_knows_is_unknown(version: Version) {
    let world = world(version).await;

    for _ in 0..2 {
        assert_eq!(
            world.state("01234567-89ab-4def-8123-456789abcdef").await,
            PromptState::Unknown
        );
    }
}

async fn a_failing_node_is_named(version: Version) {
    let world = world(version).await;
    world
        .simulator
        .faults()
        .change(|faults| faults.error_at = Some("EmptyImage".to_owned()));

    let prompt_id = world.submitted(&quick_graph("x")).await;
    let result = world.result(&prompt_id).await;

    let PromptOutcome::Failed {
        node_id,
        node_type,
        exception_type,
    } = result.outcome
    else {
        unreachable!("{result:?}")
    };
    assert_eq!(
        (node_id.as_deref(), node_type.as_deref()),
        (Some("1"), Some("EmptyImage"))
    );
    assert!(exception_type.is_some());
}

async fn a_lost_answer_is_no_lost_prompt(version: Version) {
    let world = world(version).await;
    world
        .simulator
        .faults()
        .change(|faults| faults.lose_prompt_answers = 1);
    let submission = submission(&quick_graph("x"), "c");
    let run_id = submission.run_id.to_string();

    let error = world.comfy.submit(submission).await.unwrap_err();

    assert!(matches!(error, ComfyError::AnswerLost(_)), "{error:?}");
    assert_eq!(world.result(&run_id).await.outcome, PromptOutcome::Success);
    assert_eq!(
        world.simulator.submissions(&run_id),
        1,
        "the client sent it again"
    );
}

async fn a_history_that_comes_late_is_waited_for(version: Version) {
    let world = world(version).await;
    world
        .simulator
        .faults()
        .change(|faults| faults.history_delay_ms = 300);

    let prompt_id = world.submitted(&quick_graph("x")).await;

    assert_eq!(
        world.result(&prompt_id).await.outcome,
        PromptOutcome::Success
    );
}

async fn a_restart_forgets_prompts(version: Version) {
    let world = world(version).await;
    let prompt_id = world.submitted(&quick_graph("x")).await;
    world.result(&prompt_id).await;

    world.simulator.restart().await.unwrap();

    assert_eq!(world.state(&prompt_id).await, PromptState::Unknown);
}

async fn a_failing_backend_is_a_server_error(version: Version) {
    let world = world(version).await;
    world
        .simulator
        .faults()
        .change(|faults| faults.fail_percent = 100);

    for error in [
        world.submit(&quick_graph("x")).await.map(drop).unwrap_err(),
        world.comfy.prompt_state("x").await.map(drop).unwrap_err(),
    ] {
        assert!(
            matches!(error, ComfyError::ServerError { status: 500 }),
            "{error:?}"
        );
    }
}

async fn a_prompt_too_large_is_a_rejection(version: Version) {
    let world = world_with(version, |options| options.max_upload_bytes = 10_000).await;
    let mut graph = quick_graph("x");
    graph["1"]["_meta"] = json!({"title": "x".repeat(20_000)});

    let error = world.submit(&graph).await.unwrap_err();

    assert!(
        matches!(&error, ComfyError::Rejected(rejection) if rejection.kind == "payload_too_large"),
        "{error:?}"
    );
}

async fn odd_extra_data_does_no_harm(version: Version) {
    let world = world(version).await;

    for extra_data in [
        Value::Null,
        json!("text"),
        json!({"extra_pnginfo": null}),
        json!({"extra_pnginfo": 3}),
    ] {
        let mut submission = submission(&quick_graph("x"), "c");
        submission.extra_data = extra_data.clone();
        let prompt_id = world.comfy.submit(submission).await.unwrap().prompt_id;
        assert_eq!(
            world.result(&prompt_id).await.outcome,
            PromptOutcome::Success,
            "{extra_data}"
        );
    }
}

async fn ids_that_are_none_are_not_asked_for(version: Version) {
    let world = world(version).await;

    for id in ["", "..", "../queue", "a?b"] {
        assert!(matches!(
            world.comfy.prompt_state(id).await,
            Err(ComfyError::Protocol(_))
        ));
        assert!(matches!(
            world.comfy.cancel(id).await,
            Err(ComfyError::Protocol(_))
        ));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jobs_api_out_of_order_is_done_without() {
    let world = world(Version::V0_33_0).await;
    world
        .simulator
        .faults()
        .change(|faults| faults.jobs_api_fails = true);

    let prompt_id = world.submitted(&quick_graph("x")).await;

    assert_eq!(
        world.result(&prompt_id).await.outcome,
        PromptOutcome::Success
    );
    world.simulator.faults().clear();
    assert!(matches!(
        world.state(&prompt_id).await,
        PromptState::Finished(_)
    ));
}

#[tokio::test]
async fn a_backend_that_is_down_is_unreachable() {
    let comfy = client(ComfyOptions {
        base_url: "http://127.0.0.1:1".to_owned(),
        ..ComfyOptions::default()
    });

    for error in all_refusals(&comfy).await {
        assert!(matches!(error, ComfyError::Unreachable(_)), "{error:?}");
    }
}
