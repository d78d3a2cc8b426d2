//! Backends that stop answering while others go on.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::fleet::{Fleet, FleetPlan};

use crate::ATELIER;

const PATIENCE: Duration = Duration::from_mins(1);

/// Longer than any test takes.
const FOR_GOOD: Duration = Duration::from_hours(1);

async fn two_backends(downtime: Duration) -> Fleet {
    FleetPlan::new(ATELIER)
        .backends(2)
        .step_delay(Duration::from_millis(100))
        .restart_downtime(downtime)
        .with("ATELIER_BACKEND_PATIENCE_SECONDS", "3")
        .with("ATELIER_AFFINITY_SECONDS", "1")
        .start()
        .await
}

/// How many of these runs a backend was given.
fn given(fleet: &Fleet, index: usize, runs: &[String]) -> usize {
    let backend = &fleet.backends[index];
    runs.iter()
        .filter(|run| backend.submissions(run) > 0)
        .count()
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_a_backend_that_is_gone_move_to_another() {
    let fleet = two_backends(FOR_GOOD).await;
    let runs = fleet.submit(20).await;
    let lost = &fleet.backends[0];
    let waits_there = |run: &&String| lost.submissions(run) > 0 && lost.executions(run) == 0;
    wait_until(
        "one to be executed there and one to wait",
        PATIENCE,
        async || {
            runs.iter().any(|run| lost.executions(run) > 0)
                && runs.iter().any(|run| waits_there(&run))
        },
    )
    .await;

    let completed = fleet.completed().await;
    lost.go_away().await;

    // Only what had begun there, and was not completed, may begin again.
    let begun = |run: &str| u32::from(lost.executions(run) > 0 && !completed.contains(run));
    fleet.assert_done_within(&runs, PATIENCE, begun).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_gone_is_given_no_runs() {
    let mut fleet = two_backends(FOR_GOOD).await;
    fleet.kill_worker(0);
    fleet.backends[0].go_away().await;
    fleet.start_worker(0);

    let runs = fleet.submit(10).await;

    fleet.assert_done_once(&runs, PATIENCE).await;
    assert_eq!(given(&fleet, 0, &runs), 0);
    assert_eq!(given(&fleet, 1, &runs), 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_is_back_is_given_runs_again() {
    let fleet = two_backends(Duration::from_secs(4)).await;
    fleet.backends[0].go_away().await;
    let mut runs = fleet.submit(4).await;
    fleet.await_all(&runs, PATIENCE).await;

    wait_until("it to be given a run", PATIENCE, async || {
        // More than the other one is given at once: it has the checkpoint, and is first choice.
        let next = fleet.submit(12).await;
        fleet.await_all(&next, PATIENCE).await;
        let found = given(&fleet, 0, &next) > 0;
        runs.extend(next);
        found
    })
    .await;

    fleet.assert_done_once(&runs, PATIENCE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_of_a_backend_that_hangs_move_to_another() {
    let fleet = two_backends(FOR_GOOD).await;
    let runs = fleet.submit(20).await;
    let hung = &fleet.backends[0];
    wait_until("some runs to be given to it", PATIENCE, async || {
        given(&fleet, 0, &runs) >= 4
    })
    .await;

    let completed = fleet.completed().await;
    hung.faults()
        .change(|faults| faults.delay_answers_ms = 3_600_000);

    // It goes on with what it has, but nobody can learn of it.
    let held = |run: &str| u32::from(hung.submissions(run) > 0 && !completed.contains(run));
    fleet.assert_done_within(&runs, PATIENCE, held).await;
}
