use atelier_domain::ports::{PromptOutcome, PromptResult, PromptState};
use atelier_domain::run::{Run, RunStatus};
use atelier_testkit::{PromptScript, Then};
use tokio::time::Instant;

use crate::support::{House, lora_graph, plain_graph};

async fn cancelled_while(house: &House, then: Then) -> Run {
    house.comfy.script(PromptScript::taken(then));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;
    let asked_at = Instant::now();

    house.request_cancel(run.id).await;

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert!(asked_at.elapsed().as_secs() < 5, "{:?}", asked_at.elapsed());
    run
}

#[tokio::test(start_paused = true)]
async fn a_run_that_waits_on_its_backend_is_taken_out() {
    let house = House::new();

    let run = cancelled_while(&house, Then::Waits).await;

    assert_eq!(run.status, RunStatus::Cancelled);
    assert_eq!(house.comfy.cancelled(), [run.id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_its_backend_works_on_is_stopped() {
    let house = House::new();

    let run = cancelled_while(&house, Then::Runs).await;

    assert_eq!(run.status, RunStatus::Cancelled);
    assert_eq!(house.comfy.cancelled(), [run.id.to_string()]);
}

#[tokio::test(start_paused = true)]
async fn what_a_cancelled_run_had_made_is_kept() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;
    let output = house.comfy.put_image("2", "half.png", &b"half"[..]);
    house.request_cancel(run.id).await;
    atelier_testkit::wait_until("the backend to be told", crate::support::LONG, async || {
        !house.comfy.cancelled().is_empty()
    })
    .await;
    house.comfy.set_state(
        &run.id.to_string(),
        PromptState::Finished(PromptResult {
            outcome: PromptOutcome::Interrupted,
            outputs: vec![output],
        }),
    );

    let run = house.ended(run.id).await;

    worker.stop().await;
    assert_eq!(run.status, RunStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_loras_are_on_their_way_is_never_submitted() {
    let house = House::new();
    house.lora("a.safetensors", 1).await;
    house.blobs.outage().begin();
    let run = house.submit(&lora_graph("a.safetensors")).await.unwrap();
    let worker = house.start();
    atelier_testkit::wait_until("the sync to begin", crate::support::LONG, async || {
        house.run(run.id).await.phase == Some(atelier_domain::run::RunPhase::SyncingLoras)
    })
    .await;

    house.request_cancel(run.id).await;

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!(run.status, RunStatus::Cancelled);
    assert!(house.comfy.submissions().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_outputs_cannot_be_stored_can_still_be_cancelled() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap();
    house.blobs.outage().begin();
    let worker = house.start();
    atelier_testkit::wait_until("storing to begin", crate::support::LONG, async || {
        house.run(run.id).await.phase == Some(atelier_domain::run::RunPhase::StoringOutputs)
    })
    .await;

    house.request_cancel(run.id).await;

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!(run.status, RunStatus::Cancelled);
}
