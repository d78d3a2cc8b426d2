//! A database that goes away and comes back.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::client::Answer;
use atelier_tests_integration::database::StoppablePostgres;
use atelier_tests_integration::fleet::{Fleet, FleetPlan, throughout};
use serde_json::json;
use tokio::time::timeout;

use crate::ATELIER;

const PATIENCE: Duration = Duration::from_mins(1);

/// How long the database is away.
const OUTAGE: Duration = Duration::from_secs(20);

/// How long anybody may have to wait for an answer meanwhile.
const ANSWER: Duration = Duration::from_secs(10);

/// Says that the database is away, and when to come again.
fn assert_refusal(answer: Answer) {
    let wait: u64 = answer
        .header("retry-after")
        .parse()
        .expect("a number of seconds");
    answer.expect_problem(503, "unavailable");
    assert!((1..=60).contains(&wait), "come again in {wait} s");
}

/// Asks for a run, and for another one to be made; both are refused.
async fn assert_away(fleet: &Fleet, workflow: &str, run: &str) {
    let read = format!("/runs/{run}");
    let write = format!("/workflows/{workflow}/run");
    let body = json!({"input_params": {}});
    let read = timeout(ANSWER, fleet.client.get(&read)).await;
    let write = timeout(ANSWER, fleet.client.post(&write, &body)).await;
    assert_refusal(read.expect("an answer in time"));
    assert_refusal(write.expect("an answer in time"));
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_outlives_a_database_that_is_gone_for_twenty_seconds() {
    let mut postgres = StoppablePostgres::start(ATELIER).await;
    let fleet = FleetPlan::new(ATELIER)
        .workers(2)
        .step_delay(Duration::from_millis(50))
        .database(postgres.database().clone())
        .start()
        .await;
    let runs = fleet.submit(30).await;
    let asked = &runs[0];
    let run = fleet
        .client
        .get(&format!("/runs/{asked}"))
        .await
        .expect(200);
    let workflow = run["workflow_id"].as_str().expect("an id").to_owned();
    wait_until("some runs to begin", PATIENCE, async || {
        fleet.begun(&runs) >= 5
    })
    .await;

    postgres.stop().await;
    throughout(OUTAGE, async || assert_away(&fleet, &workflow, asked).await).await;
    assert!(fleet.begun(&runs) < 30, "the outage came too late");
    postgres.start_again().await;

    wait_until(
        "the server to be back",
        Duration::from_secs(15),
        async || fleet.client.get(&format!("/runs/{asked}")).await.status == 200,
    )
    .await;
    fleet.assert_done_once(&runs, PATIENCE).await;
    // Nothing of what was refused was done.
    let all = "select count(*) from comfyui_workflow_runs";
    assert_eq!(fleet.database.count(all).await, 30);
}

#[tokio::test(flavor = "multi_thread")]
async fn everybody_outlives_connections_that_are_cut() {
    let fleet = FleetPlan::new(ATELIER)
        .workers(2)
        .step_delay(Duration::from_millis(30))
        .start()
        .await;
    let runs = fleet.submit(40).await;

    for begun in 1..=10 {
        wait_until("more runs to begin", PATIENCE, async || {
            fleet.begun(&runs) >= begun * 3
        })
        .await;
        let cut = "select count(pg_terminate_backend(pid)) from pg_stat_activity \
                   where datname = current_database() and usename = 'atelier_app'";
        assert!(fleet.database.count(cut).await > 0, "nobody is connected");
    }

    wait_until("the server to be back", PATIENCE, async || {
        let path = format!("/runs/{}", runs[0]);
        fleet.client.get(&path).await.status == 200
    })
    .await;
    fleet.assert_done_once(&runs, PATIENCE).await;
}
