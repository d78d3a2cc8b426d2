use atelier_domain::run::{RunFailureCode, RunStatus};
use atelier_testkit::{PromptScript, SubmitAnswer, Then};

use crate::support::{House, plain_graph};

#[tokio::test(start_paused = true)]
async fn a_prompt_whose_answer_was_lost_is_followed_and_not_sent_again() {
    let house = House::new();
    let output = house.comfy.put_image("2", "a.png", &b"a"[..]);
    house.comfy.script(PromptScript {
        answer: SubmitAnswer::TakenUnheard,
        ..PromptScript::succeeds(vec![output])
    });

    let run = house.execute(&plain_graph()).await;

    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
    assert_eq!(house.comfy.submissions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_was_lost_on_its_way_is_sent_again_under_the_same_id() {
    let house = House::new();
    house
        .comfy
        .script(PromptScript::refused(SubmitAnswer::LostUnseen));

    let run = house.execute(&plain_graph()).await;

    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
    assert_eq!(run.comfyui_prompt_id, Some(run.id.to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_moment_without_connection_costs_no_attempt() {
    let house = House::new();
    house
        .comfy
        .script(PromptScript::refused(SubmitAnswer::Unreachable));

    let run = house.execute(&plain_graph()).await;

    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_breaks_down_on_the_graph_again_and_again_ends_the_run() {
    let house = House::new();
    for _ in 0..18 {
        house
            .comfy
            .script(PromptScript::refused(SubmitAnswer::ServerError(500)));
    }

    let run = house.execute(&plain_graph()).await;

    assert_eq!(run.error.unwrap().code, RunFailureCode::AttemptsExhausted);
    assert_eq!(run.attempt, 3);
}

#[tokio::test(start_paused = true)]
async fn a_front_that_fails_gives_the_run_back() {
    let house = House::new();
    for _ in 0..6 {
        house
            .comfy
            .script(PromptScript::refused(SubmitAnswer::ServerError(502)));
    }

    let run = house.execute(&plain_graph()).await;

    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 2));
}

#[tokio::test(start_paused = true)]
async fn another_id_than_ours_is_kept_and_followed() {
    let house = House::new();
    let output = house.comfy.put_image("2", "a.png", &b"a"[..]);
    house.comfy.script(PromptScript {
        prompt_id: Some("old-one".to_owned()),
        ..PromptScript::succeeds(vec![output])
    });

    let run = house.execute(&plain_graph()).await;

    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(run.comfyui_prompt_id.as_deref(), Some("old-one"));
}

#[tokio::test(start_paused = true)]
async fn another_id_than_ours_is_kept_before_the_prompt_ends() {
    let house = House::new();
    house.comfy.script(PromptScript {
        prompt_id: Some("old-one".to_owned()),
        ..PromptScript::taken(Then::Waits)
    });
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();

    atelier_testkit::wait_until("the id", crate::support::LONG, async || {
        house.run(run.id).await.comfyui_prompt_id.as_deref() == Some("old-one")
    })
    .await;

    worker.stop().await;
    assert_eq!(
        house.run(run.id).await.comfyui_prompt_id.as_deref(),
        Some("old-one")
    );
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_away_gets_no_runs_until_it_answers() {
    let house = House::new();
    house.comfy.outage().begin();
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();

    tokio::time::sleep(std::time::Duration::from_mins(1)).await;
    assert_eq!(house.run(run.id).await.status, RunStatus::Pending);
    house.comfy.outage().end();

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
}
