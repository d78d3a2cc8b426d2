//! A ComfyUI that misbehaves, as it does in the field: runs end well all the same.

use std::time::Duration;

use atelier_comfyui_sim::Faults;
use atelier_testkit::{PATIENCE, wait_until};
use atelier_tests_integration::backend::Backend;
use atelier_tests_integration::site::Site;
use atelier_tests_integration::workflows::{without_lora, without_models};
use serde_json::json;

use crate::house::ATELIER;

async fn slow_site() -> Site {
    let backend =
        Backend::start_with(|options| options.step_delay = Duration::from_millis(100)).await;
    Site::with_backend(ATELIER, backend).await
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_every_fault_of_comfyui() {
    let site = Site::new(ATELIER).await;
    let server = site.serve();
    let client = server.client();
    let none = Faults::default;
    for (name, faults) in [
        (
            "deaf sockets",
            Faults {
                deaf_sockets: true,
                ..none()
            },
        ),
        (
            "a stalled publisher",
            Faults {
                stall_publisher: true,
                ..none()
            },
        ),
        (
            "sockets that are cut",
            Faults {
                cut_sockets_every_ms: Some(20),
                ..none()
            },
        ),
        (
            "slow answers",
            Faults {
                delay_answers_ms: 200,
                ..none()
            },
        ),
        (
            "a lost answer",
            Faults {
                lose_prompt_answers: 1,
                ..none()
            },
        ),
        (
            "a late history",
            Faults {
                history_delay_ms: 500,
                ..none()
            },
        ),
        (
            "events that come twice",
            Faults {
                duplicate_executed: true,
                ..none()
            },
        ),
        (
            "a broken jobs API",
            Faults {
                jobs_api_fails: true,
                ..none()
            },
        ),
        (
            "failing requests",
            // This pattern spares the prompt at least once: a backend that breaks down on it
            // three times is believed.
            Faults {
                fail_percent: 20,
                fail_seed: 1,
                ..none()
            },
        ),
    ] {
        site.backend.faults().set(faults);

        let run = client.run_to_the_end(&without_models(2)).await;

        site.backend.faults().clear();
        assert_eq!(run["status"], "completed", "{name}: {run}");
        assert_eq!(
            run["outputs"].as_array().map(Vec::len),
            Some(2),
            "{name}: {run}"
        );
        let prompt = run["comfyui_prompt_id"].as_str().expect("an id");
        assert_eq!(site.backend.executions(prompt), 1, "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_of_comfyui_begins_the_run_anew() {
    let site = slow_site().await;
    let server = site.serve();
    let client = server.client();
    let mut graph = without_lora();
    graph["3"]["inputs"]["steps"] = json!(10);
    let workflow = client.create_workflow(&graph, false).await;
    let run = client.start_run(&workflow, &json!({})).await;
    wait_until("the run to be executed", PATIENCE, async || {
        site.backend.executions(&run) == 1
    })
    .await;

    site.backend.restart().await;

    let over = client.finished_run(&run).await;
    assert_eq!(over["status"], "completed", "{over}");
    assert_eq!(over["attempt"], 2, "{over}");
    assert_eq!(site.backend.executions(&run), 2);
    assert_eq!(over["outputs"].as_array().map(Vec::len), Some(1), "{over}");
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_that_nobody_can_execute_fail_after_three_attempts() {
    let site = slow_site().await;
    let server = site.serve();
    let client = server.client();
    let mut graph = without_lora();
    graph["3"]["inputs"]["steps"] = json!(600);
    let workflow = client.create_workflow(&graph, false).await;
    let run = client.start_run(&workflow, &json!({})).await;

    for attempt in 1..=3 {
        wait_until("the next attempt", PATIENCE * 3, async || {
            site.backend.executions(&run) == attempt
        })
        .await;
        site.backend.restart().await;
    }

    let over = client.finished_run(&run).await;
    assert_eq!(over["status"], "failed", "{over}");
    assert_eq!(over["attempt"], 3, "{over}");
    assert_eq!(over["error"]["code"], "attempts_exhausted", "{over}");
}

#[tokio::test(flavor = "multi_thread")]
async fn people_with_many_runs_do_not_keep_others_waiting() {
    let site = slow_site().await;
    let server = site.setup().with("ATELIER_MAX_IN_FLIGHT", "1").start();
    let (busy, other) = (server.client(), server.client());
    let graph = without_lora();
    let workflow = busy.create_workflow(&graph, true).await;
    let mut runs = Vec::new();
    for seed in 0..6 {
        runs.push(busy.start_run(&workflow, &json!({"seed": seed})).await);
    }

    let run = other.start_run(&workflow, &json!({"seed": 100})).await;
    let over = other.finished_run(&run).await;

    assert_eq!(over["status"], "completed", "{over}");
    let waiting = busy.get("/runs?status=pending").await.expect(200);
    let left = waiting["items"].as_array().map_or(0, Vec::len);
    assert!(left >= 3, "only {left} runs of the busy person wait");
    for run in runs {
        assert_eq!(busy.finished_run(&run).await["status"], "completed");
    }
}
