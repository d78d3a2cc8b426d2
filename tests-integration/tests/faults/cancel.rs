//! Cancelling, in every phase of a run.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::client::{Answer, Client};
use atelier_tests_integration::fleet::{Fleet, FleetPlan, throughout};
use atelier_tests_integration::workflows::{with_lora, without_lora};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::ATELIER;
use crate::chance::Chance;

const PATIENCE: Duration = Duration::from_mins(1);

/// How soon a cancelled run has to be over.
const SOON: Duration = Duration::from_secs(10);

const STYLE: &str = "style.safetensors";

async fn fleet() -> Fleet {
    FleetPlan::new(ATELIER)
        .on_s3()
        .step_delay(Duration::from_millis(50))
        .start()
        .await
}

async fn cancel(client: &Client, run: &str) -> Answer {
    let path = format!("/runs/{run}/cancel");
    client.send(client.request(Method::POST, &path)).await
}

/// Cancels a run twice, which is no mistake, and waits until it is over.
async fn cancel_twice(client: &Client, run: &str) {
    cancel(client, run).await.expect(202);
    cancel(client, run).await.expect(202);
    let mut last = Value::Null;
    wait_until("the cancelled run to be over", SOON, async || {
        last = client.get(&format!("/runs/{run}")).await.expect(200);
        !["pending", "running"].contains(&last["status"].as_str().expect("a status"))
    })
    .await;
    assert_eq!(last["status"], "cancelled", "{last}");
    assert_eq!(last["phase"], Value::Null, "{last}");
}

async fn until_phase(client: &Client, run: &str, phase: &str) {
    let mut last = Value::Null;
    wait_until(phase, PATIENCE, async || {
        last = client.get(&format!("/runs/{run}")).await.expect(200);
        last["phase"] == phase
    })
    .await;
}

/// It stays cancelled, holds nothing, and the next run of the same workflow is not in its way.
async fn assert_gone(fleet: &Fleet, workflow: &str, run: &str, executions: u32) {
    let client = &fleet.client;
    let next = client.start_run(workflow, &json!({"seed": 7})).await;
    let over = client.finished_run(&next).await;
    assert_eq!(over["status"], "completed", "{over}");
    assert!(!client.output(&over, 0).await.is_empty());
    let cancelled = client.get(&format!("/runs/{run}")).await.expect(200);
    assert_eq!(cancelled["status"], "cancelled", "{cancelled}");
    assert_eq!(fleet.executions(run), executions);
    assert!(fleet.holds_no_lease().await, "somebody holds a run");
    assert!(fleet.backend().is_idle().await, "the backend is busy");
    assert_eq!(cancel(client, run).await.expect(202)["status"], "cancelled");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_waits_can_be_cancelled() {
    let mut fleet = fleet().await;
    fleet.kill_worker(0);
    let workflow = fleet.client.create_workflow(&without_lora(), false).await;
    let run = fleet.client.start_run(&workflow, &json!({})).await;

    cancel_twice(&fleet.client, &run).await;

    fleet.start_worker(0);
    assert_gone(&fleet, &workflow, &run, 0).await;
    assert_eq!(fleet.submissions(&run), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_loras_are_copied_can_be_cancelled() {
    let fleet = fleet().await;
    fleet.client.add_lora(STYLE, 1).await;
    let workflow = fleet.client.create_workflow(&with_lora(STYLE), false).await;
    fleet.s3_gate().hold_gets(true);
    let run = fleet.client.start_run(&workflow, &json!({})).await;
    until_phase(&fleet.client, &run, "syncing_loras").await;

    cancel_twice(&fleet.client, &run).await;

    fleet.s3_gate().hold_gets(false);
    let user = fleet.client.person().id;
    let copy = fleet.backend().loras.join(format!("user-{user}/{STYLE}"));
    throughout(Duration::from_secs(1), async || {
        assert!(!copy.exists(), "nobody needs the copy");
    })
    .await;
    assert_gone(&fleet, &workflow, &run, 0).await;
    assert_eq!(fleet.submissions(&run), 0);
    assert!(copy.exists(), "the copy is elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_another_run_needs_goes_on_without_the_cancelled_one() {
    let fleet = fleet().await;
    fleet.client.add_lora(STYLE, 1).await;
    let workflow = fleet.client.create_workflow(&with_lora(STYLE), false).await;
    fleet.s3_gate().hold_gets(true);
    let cancelled = fleet.client.start_run(&workflow, &json!({"seed": 1})).await;
    let other = fleet.client.start_run(&workflow, &json!({"seed": 2})).await;
    until_phase(&fleet.client, &cancelled, "syncing_loras").await;
    until_phase(&fleet.client, &other, "syncing_loras").await;

    cancel_twice(&fleet.client, &cancelled).await;
    fleet.s3_gate().hold_gets(false);

    let over = fleet.client.finished_run(&other).await;
    assert_eq!(over["status"], "completed", "{over}");
    assert_gone(&fleet, &workflow, &cancelled, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_in_the_queue_of_its_backend_can_be_cancelled() {
    let fleet = fleet().await;
    let occupation = fleet.backend().occupy(10_000).await;
    let workflow = fleet.client.create_workflow(&without_lora(), false).await;
    let run = fleet.client.start_run(&workflow, &json!({})).await;
    until_phase(&fleet.client, &run, "queued").await;

    cancel_twice(&fleet.client, &run).await;

    // Whoever has the backend keeps it.
    assert!(occupation.is_running().await);
    occupation.end().await;
    assert_gone(&fleet, &workflow, &run, 0).await;
    assert_eq!(fleet.submissions(&run), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_is_executed_can_be_cancelled() {
    let fleet = fleet().await;
    let workflow = fleet.client.create_workflow(&without_lora(), false).await;
    let run = fleet
        .client
        .start_run(&workflow, &json!({"steps": 10_000}))
        .await;
    until_phase(&fleet.client, &run, "executing").await;

    cancel_twice(&fleet.client, &run).await;

    assert_gone(&fleet, &workflow, &run, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_whose_outputs_are_stored_can_be_cancelled() {
    let fleet = fleet().await;
    let workflow = fleet.client.create_workflow(&without_lora(), false).await;
    fleet.s3_gate().hold_puts(true);
    let run = fleet.client.start_run(&workflow, &json!({})).await;
    until_phase(&fleet.client, &run, "storing_outputs").await;

    cancel_twice(&fleet.client, &run).await;

    fleet.s3_gate().hold_puts(false);
    assert_gone(&fleet, &workflow, &run, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_finished_stays_finished() {
    let fleet = fleet().await;
    let run = fleet.client.run_to_the_end(&without_lora()).await;
    assert_eq!(run["status"], "completed", "{run}");
    let id = run["id"].as_str().expect("an id");

    for _ in 0..2 {
        cancel(&fleet.client, id)
            .await
            .expect_problem(409, "run-already-finished");
    }

    let path = format!("/runs/{id}");
    assert_eq!(fleet.client.get(&path).await.expect(200), run);
    assert!(!fleet.client.output(&run, 0).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_may_be_cancelled_at_any_moment() {
    let mut chance = Chance::new();
    println!("{}", chance.told());
    let fleet = FleetPlan::new(ATELIER)
        .workers(2)
        .step_delay(Duration::from_millis(10))
        .start()
        .await;
    let runs = fleet.submit(40).await;

    let mut told = Vec::new();
    for run in &runs {
        let pause = chance.pause(Duration::from_millis(80));
        fleet.none_fails_for(pause).await;
        told.push(cancel(&fleet.client, run).await.status);
    }

    let over = fleet.await_all(&runs, PATIENCE).await;
    for (run, told) in over.iter().zip(told) {
        let id = run["id"].as_str().expect("an id");
        // Accepted is not promised: a run may finish first. Refused is finished.
        let right = match run["status"].as_str() {
            Some("cancelled") => told == StatusCode::ACCEPTED,
            Some("completed") => [StatusCode::ACCEPTED, StatusCode::CONFLICT].contains(&told),
            _ => false,
        };
        assert!(right, "{told}: {run}");
        assert!(fleet.executions(id) <= 1, "executed twice: {run}");
    }
    let count = |status| over.iter().filter(|run| run["status"] == status).count();
    assert!(count("cancelled") > 0, "all of them finished first");
    assert!(fleet.holds_no_lease().await, "somebody holds a run");
    wait_until("the backend to be idle", SOON, async || {
        fleet.backend().is_idle().await
    })
    .await;
}
