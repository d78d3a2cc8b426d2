//! Workers that are killed, again and again, while they work on many runs.

use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::fleet::FleetPlan;

use crate::ATELIER;
use crate::chance::Chance;

/// How long the next few runs may take to begin, though both workers may just have been killed.
const PROGRESS: Duration = Duration::from_secs(30);

const RUNS: usize = 200;
const KILLS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn workers_may_be_killed_at_any_moment() {
    let mut chance = Chance::new();
    println!("{}", chance.told());
    let mut fleet = FleetPlan::new(ATELIER)
        .backends(3)
        .workers(2)
        .step_delay(Duration::from_millis(60))
        .start()
        .await;
    let runs = fleet.submit(RUNS).await;

    for begun in chance.spread(KILLS, RUNS - KILLS) {
        wait_until(&format!("{begun} runs to begin"), PROGRESS, async || {
            fleet.begun(&runs) >= begun
        })
        .await;
        let pause = chance.pause(Duration::from_millis(250));
        fleet.none_fails_for(pause).await;
        assert!(fleet.unfinished().await > 0, "the kills come too late");
        let worker = chance.below(fleet.worker_count());
        fleet.kill_worker(worker);
        fleet.start_worker(worker);
    }

    let patience = Duration::from_mins(2);
    fleet.assert_done_once(&runs, patience).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_takes_over_all_that_another_left() {
    let mut fleet = FleetPlan::new(ATELIER)
        .workers(2)
        .step_delay(Duration::from_millis(50))
        .start()
        .await;
    let runs = fleet.submit(20).await;
    wait_until("some runs to begin", PROGRESS, async || {
        fleet.begun(&runs) >= 3
    })
    .await;

    fleet.kill_worker(0);

    fleet.assert_done_once(&runs, Duration::from_mins(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn runs_outlive_the_death_of_every_worker() {
    let mut fleet = FleetPlan::new(ATELIER)
        .workers(2)
        .step_delay(Duration::from_millis(50))
        .start()
        .await;
    let runs = fleet.submit(20).await;
    wait_until("some runs to begin", PROGRESS, async || {
        fleet.begun(&runs) >= 3
    })
    .await;

    fleet.kill_worker(0);
    fleet.kill_worker(1);
    // The backend goes on with what it was given, and nobody is there to see it.
    wait_until("the backend to be idle", PROGRESS, async || {
        fleet.backend().is_idle().await
    })
    .await;
    fleet.start_worker(0);

    fleet.assert_done_once(&runs, Duration::from_mins(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_may_be_replaced_at_any_moment() {
    let mut chance = Chance::new();
    println!("{}", chance.told());
    let mut fleet = FleetPlan::new(ATELIER)
        .workers(2)
        .step_delay(Duration::from_millis(20))
        // Longer than this test may take: what a worker leaves it has to hand over.
        .with("ATELIER_LEASE_SECONDS", "3600")
        .start()
        .await;
    let runs = fleet.submit(60).await;

    for begun in chance.spread(6, 54) {
        wait_until(&format!("{begun} runs to begin"), PROGRESS, async || {
            fleet.begun(&runs) >= begun
        })
        .await;
        fleet
            .none_fails_for(chance.pause(Duration::from_millis(100)))
            .await;
        let worker = chance.below(fleet.worker_count());
        fleet.retire_worker(worker, PROGRESS);
        fleet.start_worker(worker);
    }

    fleet.assert_done_once(&runs, Duration::from_mins(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn workers_that_hang_for_longer_than_their_leases_do_no_harm() {
    let mut chance = Chance::new();
    println!("{}", chance.told());
    let fleet = FleetPlan::new(ATELIER)
        .workers(2)
        .step_delay(Duration::from_millis(40))
        .start()
        .await;
    let runs = fleet.submit(80).await;

    for worker in [0, 1, 0] {
        let begun = fleet.begun(&runs);
        wait_until("another run to begin", PROGRESS, async || {
            fleet.begun(&runs) > begun
        })
        .await;
        fleet
            .none_fails_for(chance.pause(Duration::from_millis(200)))
            .await;
        fleet.freeze_worker(worker);
        // The other one takes over; the frozen one knows nothing of it when it wakes up.
        fleet.none_fails_for(Duration::from_secs(4)).await;
        fleet.thaw_worker(worker);
    }

    fleet.assert_done_once(&runs, Duration::from_mins(1)).await;
    fleet.none_fails_for(Duration::from_secs(1)).await;
    assert!(fleet.holds_no_lease().await, "somebody holds a run");
}
