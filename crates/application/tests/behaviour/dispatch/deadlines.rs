//! Runs that take longer than they may.

use std::time::Duration;

use atelier_domain::run::{RunFailureCode, RunStatus};
use atelier_testkit::{PromptScript, Then};

use crate::support::{House, plain_graph};

#[tokio::test(start_paused = true)]
async fn a_run_that_takes_too_long_is_stopped_and_fails() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let begun = tokio::time::Instant::now();
    let worker = house.start();

    let ended = house.ended(run.id).await;

    worker.stop().await;
    assert_eq!(ended.status, RunStatus::Failed);
    let error = ended.error.unwrap();
    assert_eq!(error.code, RunFailureCode::TimedOut);
    assert!(
        error.message.contains(&run.timeout_s.to_string()),
        "{}",
        error.message
    );
    assert_eq!(house.comfy.cancelled(), [run.id.to_string()]);
    let allowed = Duration::from_secs(u64::from(run.timeout_s));
    assert!(begun.elapsed() >= allowed && begun.elapsed() < allowed + Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_cannot_be_told_does_not_keep_a_run_for_ever() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;
    let nearly = Duration::from_secs(u64::from(run.timeout_s) - 1);
    tokio::time::sleep(nearly).await;

    house.comfy.outage().begin();

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!(run.error.unwrap().code, RunFailureCode::TimedOut);
}
