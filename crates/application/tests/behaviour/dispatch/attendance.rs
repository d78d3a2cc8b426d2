//! How a worker looks after its backends.

use std::time::Duration;

use atelier_domain::ports::{ComfyEvent, PreviewFormat, PreviewImage};
use atelier_domain::ports::{PromptState, RunPreviews as _};
use atelier_domain::run::{RunPhase, RunStatus};
use atelier_testkit::{PromptScript, ScriptedComfy, SubmitAnswer, Then, wait_until};
use futures_util::StreamExt as _;

use crate::support::{House, LONG, Running, plain_graph};

#[tokio::test(start_paused = true)]
async fn a_prompt_whose_run_was_cancelled_meanwhile_is_taken_off_the_backend() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let first = house.start();
    house.comfy.wait_for_submissions(1).await;
    first.stop().await;
    // It waits for its backend, where it is alive.
    assert_eq!(house.run(run.id).await.status, RunStatus::Pending);

    let id = run.id;
    house.request_cancel(id).await;
    let second = house.start();

    wait_until("the prompt to be taken off", LONG, async || {
        house.comfy.cancelled() == [id.to_string()]
    })
    .await;
    second.stop().await;
    assert_eq!(house.run(id).await.status, RunStatus::Cancelled);
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_prompts_are_left_alone() {
    let house = House::new();
    let foreign = uuid::Uuid::from_u128(77).to_string();
    house.comfy.set_state(&foreign, PromptState::Running);
    let worker = house.start();

    tokio::time::sleep(Duration::from_mins(2)).await;

    worker.stop().await;
    assert!(house.comfy.cancelled().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_comes_back_is_tried_out_by_one_run() {
    let house = House::new();
    for _ in 0..12 {
        house
            .comfy
            .script(PromptScript::refused(SubmitAnswer::ServerError(502)));
    }
    let mut runs = vec![house.submit(&plain_graph()).await.unwrap().id];
    let worker = house.start();
    wait_until("the first run to be tried again", LONG, async || {
        house.run(runs[0]).await.attempt == 2
    })
    .await;
    for _ in 0..2 {
        runs.push(house.submit(&plain_graph()).await.unwrap().id);
    }

    let mut attempts = Vec::new();
    for run in runs {
        attempts.push(house.ended(run).await.attempt);
    }

    worker.stop().await;
    // It met the other refusals as well, while the others waited.
    assert_eq!(attempts, [3, 1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_run_alive_on_a_backend_waits_for_that_one() {
    let house = House::new();
    let (home, other) = (ScriptedComfy::new(), ScriptedComfy::new());
    home.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let first = Running::begin(house.worker_with(&[("home", &home)]));
    home.wait_for_submissions(1).await;
    first.stop().await;

    let second = Running::begin(house.worker_with(&[("other", &other)]));
    tokio::time::sleep(Duration::from_secs(30)).await;
    assert!(other.submissions().is_empty());

    // Longer than anybody's patience: the backend is gone for good.
    house.clock.advance(Duration::from_mins(2));
    wait_until("another backend to begin it anew", LONG, async || {
        other.submissions().len() == 1
    })
    .await;
    let run = house.ended(run.id).await;
    second.stop().await;
    assert_eq!(run.status, RunStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn previews_are_shown_to_whoever_watches() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let mut watched = house.previews.watch(run.id);
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;
    let image = PreviewImage {
        content_type: PreviewFormat::Jpeg,
        bytes: (&b"a small picture"[..]).into(),
    };

    house.comfy.push(&ComfyEvent::Preview {
        prompt_id: run.id.to_string(),
        node_id: "1".to_owned(),
        image: image.clone(),
    });

    assert_eq!(watched.next().await, Some(image));
    assert_eq!(house.run(run.id).await.phase, Some(RunPhase::Executing));
    worker.stop().await;
}
