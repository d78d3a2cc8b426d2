use std::time::Duration;

use atelier_domain::output::BackendOutput;
use atelier_domain::ports::{ComfyEvent, PromptOutcome, PromptResult, PromptState};
use atelier_domain::run::{RunFailureCode, RunPhase, RunStatus};
use atelier_testkit::{PromptScript, Then, wait_until};
use tokio::time::Instant;

use crate::support::{House, LONG, plain_graph};

fn success(outputs: Vec<BackendOutput>) -> PromptResult {
    PromptResult {
        outcome: PromptOutcome::Success,
        outputs,
    }
}

fn picture(house: &House) -> Vec<BackendOutput> {
    vec![house.comfy.put_image("2", "a.png", &b"a"[..])]
}

#[tokio::test(start_paused = true)]
async fn a_deaf_socket_costs_time_and_is_replaced() {
    let house = House::new();
    house
        .comfy
        .script(PromptScript::taken(Then::EndsSilentlyAfter {
            questions: 3,
            result: success(picture(&house)),
        }));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();

    let run = house.ended(run.id).await;

    assert_eq!(run.status, RunStatus::Completed);
    wait_until("a second socket", LONG, async || {
        house.comfy.sockets_opened() == 2
    })
    .await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_lost_socket_makes_the_follower_ask_at_once() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;
    house.comfy.break_sockets();
    let broken_at = Instant::now();
    house.comfy.set_state(
        &run.id.to_string(),
        PromptState::Finished(success(picture(&house))),
    );

    house.ended(run.id).await;

    // Well before the silence of three seconds is over.
    assert!(
        broken_at.elapsed() < Duration::from_secs(1),
        "{:?}",
        broken_at.elapsed()
    );
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn history_that_comes_late_is_waited_for() {
    let house = House::new();
    house
        .comfy
        .script(PromptScript::taken(Then::EndsSilentlyAfter {
            questions: 4,
            result: success(picture(&house)),
        }));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;
    let ended_at = Instant::now();
    house.comfy.push(&ComfyEvent::Ended {
        prompt_id: run.id.to_string(),
    });

    let run = house.ended(run.id).await;

    assert_eq!(run.status, RunStatus::Completed);
    assert!(
        ended_at.elapsed() < Duration::from_secs(1),
        "{:?}",
        ended_at.elapsed()
    );
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_prompt_that_its_backend_forgot_is_submitted_anew() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;

    house.comfy.restart();

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 2));
    let ids: Vec<_> = house
        .comfy
        .submissions()
        .iter()
        .map(|prompt| prompt.run_id)
        .collect();
    assert_eq!(ids, [run.id, run.id]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_brings_its_backend_down_each_time_is_given_up() {
    let house = House::new();
    for _ in 0..3 {
        house.comfy.script(PromptScript::taken(Then::Runs));
    }
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();

    for attempt in 1..=3 {
        house.comfy.wait_for_submissions(attempt).await;
        house.comfy.push(&ComfyEvent::Executing {
            prompt_id: run.id.to_string(),
            node_id: "1".to_owned(),
        });
        wait_until("the run to execute", LONG, async || {
            house.run(run.id).await.phase == Some(RunPhase::Executing)
        })
        .await;
        house.comfy.restart();
    }

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!((run.status, run.attempt), (RunStatus::Failed, 3));
    assert_eq!(run.error.unwrap().code, RunFailureCode::AttemptsExhausted);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_never_began_outlives_many_restarts() {
    let house = House::new();
    for _ in 0..8 {
        house.comfy.script(PromptScript::taken(Then::Vanishes));
    }

    let run = house.execute(&plain_graph()).await;

    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 9));
}

#[tokio::test(start_paused = true)]
async fn a_history_that_is_late_is_not_a_lost_run() {
    let house = House::new();
    // Known from then on, so that the backend can be seen to remember.
    let worker = house.start();
    let first = house.submit(&plain_graph()).await.unwrap();
    house.ended(first.id).await;
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    house.comfy.wait_for_submissions(2).await;
    let id = run.id.to_string();
    wait_until("the run to execute", LONG, async || {
        house.run(run.id).await.phase == Some(RunPhase::Executing)
    })
    .await;

    house.comfy.set_state(&id, PromptState::Unknown);
    tokio::time::sleep(Duration::from_secs(15)).await;
    let output = house.comfy.put_image("2", "late.png", &b"late"[..]);
    house.comfy.set_state(
        &id,
        PromptState::Finished(PromptResult {
            outcome: PromptOutcome::Success,
            outputs: vec![output],
        }),
    );

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
    assert_eq!(house.comfy.submissions().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn progress_goes_up_and_is_written_now_and_then() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;
    let prompt_id = run.id.to_string();
    for value in 0..1_000 {
        house.comfy.push(&ComfyEvent::Progress {
            prompt_id: prompt_id.clone(),
            node_id: "1".to_owned(),
            value,
            max: 1_000,
        });
    }

    wait_until("the progress", LONG, async || {
        house.run(run.id).await.progress.step == Some(999)
    })
    .await;

    let now = house.run(run.id).await;
    assert_eq!(now.phase, Some(RunPhase::Executing));
    assert!(
        now.progress.value > 0.49 && now.progress.value < 0.5,
        "{}",
        now.progress.value
    );
    let events =
        atelier_domain::ports::RunRepo::events(&house.store.runs(), &house.actor, run.id, 0, 1_000)
            .await
            .unwrap()
            .unwrap();
    assert!(events.len() < 10, "{} events", events.len());
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_is_away_for_a_while_costs_no_attempt() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;

    house.comfy.outage().begin();
    house.comfy.break_sockets();
    tokio::time::sleep(Duration::from_secs(40)).await;
    house.comfy.outage().end();
    house.comfy.set_state(
        &run.id.to_string(),
        PromptState::Finished(success(picture(&house))),
    );

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
    assert_eq!(house.comfy.submissions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_on_a_backend_that_was_away_for_long_is_found_there_again() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;

    house.comfy.outage().begin();
    house.comfy.break_sockets();
    wait_until("the run to be given back", LONG, async || {
        house.run(run.id).await.status == RunStatus::Pending
    })
    .await;
    house.comfy.outage().end();
    house.comfy.set_state(
        &run.id.to_string(),
        PromptState::Finished(success(picture(&house))),
    );

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 2));
    assert_eq!(house.comfy.submissions().len(), 1);
}
