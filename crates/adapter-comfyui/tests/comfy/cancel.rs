//! Stopping prompts, and only the one that is meant.

use std::time::Duration;

use atelier_comfyui_sim::Version;
use atelier_domain::ports::{ComfyClient, PromptOutcome, PromptState};

use crate::support::{World, on_both_versions, quick_graph, sampling_graph, world, world_with};

on_both_versions!(
    a_waiting_prompt_leaves_the_queue,
    a_running_prompt_is_interrupted,
    a_finished_prompt_stays_as_it_is,
    a_prompt_that_nobody_knows_can_be_cancelled,
    cancelling_works_without_the_jobs_api,
);

async fn busy(version: Version) -> (World, String) {
    let world = world_with(version, |options| {
        options.step_delay = Duration::from_millis(10);
    })
    .await;
    let running = world.submitted(&sampling_graph(2_000)).await;
    world
        .reaches(&running, |state| *state == PromptState::Running)
        .await;
    (world, running)
}

async fn a_waiting_prompt_leaves_the_queue(version: Version) {
    let (world, running) = busy(version).await;
    let waiting = world.submitted(&quick_graph("x")).await;

    world.comfy.cancel(&waiting).await.unwrap();
    assert_eq!(world.state(&waiting).await, PromptState::Unknown);
    assert_eq!(world.state(&running).await, PromptState::Running);
}

async fn a_running_prompt_is_interrupted(version: Version) {
    let (world, running) = busy(version).await;
    let waiting = world.submitted(&quick_graph("x")).await;

    world.comfy.cancel(&running).await.unwrap();
    assert_eq!(
        world.result(&running).await.outcome,
        PromptOutcome::Interrupted
    );
    assert_eq!(world.result(&waiting).await.outcome, PromptOutcome::Success);
}

async fn a_finished_prompt_stays_as_it_is(version: Version) {
    let world = world(version).await;
    let prompt_id = world.submitted(&quick_graph("x")).await;
    world.result(&prompt_id).await;

    world.comfy.cancel(&prompt_id).await.unwrap();

    assert_eq!(
        world.result(&prompt_id).await.outcome,
        PromptOutcome::Success
    );
}

async fn a_prompt_that_nobody_knows_can_be_cancelled(version: Version) {
    let world = world(version).await;

    world
        .comfy
        .cancel("01234567-89ab-4def-8123-456789abcdef")
        .await
        .unwrap();
}

async fn cancelling_works_without_the_jobs_api(version: Version) {
    let (world, running) = busy(version).await;
    world
        .simulator
        .faults()
        .change(|faults| faults.jobs_api_fails = true);
    let waiting = world.submitted(&quick_graph("x")).await;

    world.comfy.cancel(&waiting).await.unwrap();
    world.comfy.cancel(&running).await.unwrap();

    assert_eq!(
        world.result(&running).await.outcome,
        PromptOutcome::Interrupted
    );
    assert_eq!(world.state(&waiting).await, PromptState::Unknown);
}
