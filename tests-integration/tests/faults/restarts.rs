//! A ComfyUI that is restarted, again and again, while it works: it forgets everything.

use std::collections::HashMap;
use std::time::Duration;

use atelier_testkit::wait_until;
use atelier_tests_integration::fleet::{Fleet, FleetPlan};

use crate::ATELIER;
use crate::chance::Chance;

const PROGRESS: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_mins(2);
const RESTARTS: usize = 10;

/// How often each run may have to be executed again.
type Allowance = HashMap<String, u32>;

/// Restarts a backend. Whatever had begun there, and was not completed, may have to begin again.
async fn restart(fleet: &Fleet, index: usize, runs: &[String], allowance: &mut Allowance) {
    let backend = &fleet.backends[index];
    let completed = fleet.completed().await;
    backend.restart().await;
    for run in runs {
        if backend.executions(run) > 0 && !completed.contains(run) {
            *allowance.entry(run.clone()).or_default() += 1;
        }
    }
}

/// Restarts backends at random moments of so many runs.
async fn restart_under_load(plan: FleetPlan, count: usize, mut chance: Chance) {
    let fleet = plan.start().await;
    let runs = fleet.submit(count).await;
    let mut allowance = Allowance::new();

    for begun in chance.spread(RESTARTS, count - RESTARTS) {
        wait_until(&format!("{begun} runs to begin"), PROGRESS, async || {
            fleet.begun(&runs) >= begun
        })
        .await;
        let pause = chance.pause(Duration::from_millis(200));
        fleet.none_fails_for(pause).await;
        assert!(fleet.unfinished().await > 0, "the restarts come too late");
        let index = chance.below(fleet.backends.len());
        restart(&fleet, index, &runs, &mut allowance).await;
    }

    let allowed = |run: &str| allowance.get(run).copied().unwrap_or_default();
    fleet.assert_done_within(&runs, PATIENCE, allowed).await;
    // Nobody goes on with what is over.
    assert_eq!(fleet.unfinished().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_only_backend_may_be_restarted_at_any_moment() {
    let chance = Chance::new();
    println!("{}", chance.told());
    let plan = FleetPlan::new(ATELIER)
        .workers(2)
        .step_delay(Duration::from_millis(25));
    restart_under_load(plan, 100, chance).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_may_be_restarted_at_any_moment() {
    let chance = Chance::new();
    println!("{}", chance.told());
    let plan = FleetPlan::new(ATELIER)
        .backends(3)
        .workers(2)
        .step_delay(Duration::from_millis(40));
    restart_under_load(plan, 150, chance).await;
}
