//! Everything that goes wrong with a ComfyUI in the field: many runs under each fault, each of them
//! completed and executed once.

use std::time::Duration;

use atelier_comfyui_sim::{Faults, Front};
use atelier_testkit::wait_until;
use atelier_tests_integration::fleet::{Fleet, FleetPlan};
use atelier_tests_integration::workflows::with_lora;
use serde_json::json;

use crate::ATELIER;

const PATIENCE: Duration = Duration::from_mins(2);

async fn fleet() -> Fleet {
    FleetPlan::new(ATELIER)
        .step_delay(Duration::from_millis(20))
        .start()
        .await
}

/// So many runs are done once, though this goes wrong all the time.
async fn outlive(count: usize, faults: Faults) {
    let fleet = fleet().await;
    fleet.backend().faults().set(faults);

    let runs = fleet.submit(count).await;

    fleet.assert_done_once(&runs, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_sockets_that_are_deaf() {
    outlive(
        30,
        Faults {
            deaf_sockets: true,
            ..Faults::default()
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_a_publisher_that_stalls() {
    outlive(
        30,
        Faults {
            stall_publisher: true,
            ..Faults::default()
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_sockets_that_are_cut_every_fifty_milliseconds() {
    outlive(
        30,
        Faults {
            cut_sockets_every_ms: Some(50),
            ..Faults::default()
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_answers_that_take_five_seconds() {
    // As many as are in flight at once.
    outlive(
        4,
        Faults {
            delay_answers_ms: 5_000,
            ..Faults::default()
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_a_tenth_of_all_requests_failing() {
    outlive(
        30,
        Faults {
            fail_percent: 10,
            ..Faults::default()
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_the_loss_of_every_answer_to_a_prompt() {
    let fleet = fleet().await;
    let faults = fleet.backend().faults();
    faults.change(|faults| faults.lose_prompt_answers = 30);

    let runs = fleet.submit(30).await;

    fleet.assert_done_once(&runs, PATIENCE).await;
    assert_eq!(faults.current().lose_prompt_answers, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_a_login_page_that_comes_and_goes() {
    let fleet = fleet().await;
    let runs = fleet.submit(30).await;
    wait_until("some runs to begin", PATIENCE, async || {
        fleet.begun(&runs) >= 5
    })
    .await;

    let faults = fleet.backend().faults();
    faults.change(|faults| faults.front = Some(Front::Redirect));
    fleet.none_fails_for(Duration::from_secs(3)).await;
    assert!(fleet.unfinished().await > 0, "the page came too late");
    faults.clear();

    fleet.assert_done_once(&runs, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_that_meets_a_login_page_is_handed_over_later() {
    const STYLE: &str = "style.safetensors";
    let fleet = FleetPlan::new(ATELIER).on_s3().start().await;
    let client = &fleet.client;
    client.add_lora(STYLE, 1).await;
    let workflow = client.create_workflow(&with_lora(STYLE), false).await;
    fleet.s3_gate().hold_gets(true);
    let run = client.start_run(&workflow, &json!({})).await;
    wait_until("the LoRA to be copied", PATIENCE, async || {
        let run = client.get(&format!("/runs/{run}")).await.expect(200);
        run["phase"] == "syncing_loras"
    })
    .await;

    let faults = fleet.backend().faults();
    faults.change(|faults| faults.front = Some(Front::Redirect));
    fleet.s3_gate().hold_gets(false);
    fleet.none_fails_for(Duration::from_secs(3)).await;
    faults.clear();

    fleet.assert_done_once(&[run], PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_a_history_that_is_three_seconds_late() {
    outlive(
        30,
        Faults {
            history_delay_ms: 3_000,
            ..Faults::default()
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_events_that_come_twice() {
    outlive(
        30,
        Faults {
            duplicate_executed: true,
            ..Faults::default()
        },
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_many_faults_at_once() {
    outlive(
        20,
        Faults {
            cut_sockets_every_ms: Some(200),
            delay_answers_ms: 100,
            fail_percent: 5,
            lose_prompt_answers: 5,
            history_delay_ms: 500,
            duplicate_executed: true,
            ..Faults::default()
        },
    )
    .await;
}
