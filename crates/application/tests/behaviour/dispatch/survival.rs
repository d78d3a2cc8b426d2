use std::sync::Arc;
use std::time::Duration;

use atelier_domain::output::BackendOutput;
use atelier_domain::ports::{PromptOutcome, PromptResult, PromptState, RunQueue as _};
use atelier_domain::run::RunStatus;
use atelier_testkit::{PromptScript, ScriptedComfy, Then, wait_until};

use crate::support::{House, LONG, RecordingQueue, Running, plain_graph};

fn success(outputs: Vec<BackendOutput>) -> PromptState {
    PromptState::Finished(PromptResult {
        outcome: PromptOutcome::Success,
        outputs,
    })
}

#[tokio::test(start_paused = true)]
async fn a_run_whose_worker_was_killed_is_found_on_its_backend_and_not_sent_twice() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let first = house.start();
    house.comfy.wait_for_submissions(1).await;
    first.kill().await;

    house.clock.advance(Duration::from_mins(1));
    let second = house.start();
    wait_until("the second attempt", LONG, async || {
        house.run(run.id).await.attempt == 2
    })
    .await;
    let output = house.comfy.put_image("2", "a.png", &b"a"[..]);
    house
        .comfy
        .set_state(&run.id.to_string(), success(vec![output]));

    let run = house.ended(run.id).await;
    second.stop().await;
    assert_eq!((run.status, run.outputs.len()), (RunStatus::Completed, 1));
    assert_eq!(house.comfy.submissions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_ended_while_nobody_looked_is_collected() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let first = house.start();
    house.comfy.wait_for_submissions(1).await;
    first.kill().await;
    let output = house.comfy.put_image("2", "a.png", &b"a"[..]);
    house
        .comfy
        .set_state(&run.id.to_string(), success(vec![output]));

    house.clock.advance(Duration::from_mins(1));
    let second = house.start();

    let run = house.ended(run.id).await;
    second.stop().await;
    assert_eq!(run.status, RunStatus::Completed);
    assert_eq!(house.comfy.submissions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_stops_hands_its_run_over_without_costing_an_attempt() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let first = house.start();
    house.comfy.wait_for_submissions(1).await;

    first.stop().await;
    assert_eq!(house.run(run.id).await.status, RunStatus::Pending);
    let second = house.start();
    wait_until("the run to be taken", LONG, async || {
        house.run(run.id).await.status == RunStatus::Running
    })
    .await;
    let output = house.comfy.put_image("2", "a.png", &b"a"[..]);
    house
        .comfy
        .set_state(&run.id.to_string(), success(vec![output]));

    let run = house.ended(run.id).await;
    second.stop().await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
    assert_eq!(house.comfy.submissions().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_worker_lets_a_run_that_is_storing_end() {
    let house = House::new();
    house.blobs.outage().begin();
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    wait_until("storing to begin", LONG, async || {
        house.run(run.id).await.phase == Some(atelier_domain::run::RunPhase::StoringOutputs)
    })
    .await;

    let ((), ()) = tokio::join!(worker.stop(), async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        house.blobs.outage().end();
    });

    assert_eq!(house.run(run.id).await.status, RunStatus::Completed);
}

#[tokio::test(start_paused = true)]
async fn a_stopping_worker_does_not_wait_for_ever() {
    let house = House::new();
    house.blobs.outage().begin();
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    wait_until("storing to begin", LONG, async || {
        house.run(run.id).await.phase == Some(atelier_domain::run::RunPhase::StoringOutputs)
    })
    .await;
    let stopping_at = tokio::time::Instant::now();

    worker.stop().await;

    assert_eq!(house.run(run.id).await.status, RunStatus::Pending);
    assert!(
        stopping_at.elapsed() < Duration::from_secs(15),
        "{:?}",
        stopping_at.elapsed()
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_lost_its_claim_says_nothing_more() {
    let house = House::new();
    let queue = RecordingQueue::new(house.store.queue());
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = Running::begin(house.worker_on(Arc::new(queue.clone())));
    house.comfy.wait_for_submissions(1).await;

    // Long enough for all that is to be reported: the heartbeat has to notice.
    tokio::time::sleep(Duration::from_secs(5)).await;
    queue.lose_claims();
    // A third of the lease is over, the lease is not.
    tokio::time::sleep(Duration::from_secs(12)).await;
    queue.said();
    let output = house.comfy.put_image("2", "a.png", &b"a"[..]);
    house
        .comfy
        .set_state(&run.id.to_string(), success(vec![output]));
    tokio::time::sleep(Duration::from_secs(30)).await;

    assert_eq!(queue.said(), [""; 0]);
    assert!(
        house.blobs.keys().is_empty(),
        "outputs were stored without a claim"
    );
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_within_the_lease_costs_nothing() {
    let house = House::new();
    let queue = RecordingQueue::new(house.store.queue());
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = Running::begin(house.worker_on(Arc::new(queue.clone())));
    house.comfy.wait_for_submissions(1).await;

    queue.set_away(true);
    let output = house.comfy.put_image("2", "a.png", &b"a"[..]);
    house
        .comfy
        .set_state(&run.id.to_string(), success(vec![output]));
    tokio::time::sleep(Duration::from_secs(20)).await;
    assert_eq!(house.run(run.id).await.status, RunStatus::Running);
    queue.set_away(false);

    let run = house.ended(run.id).await;
    worker.stop().await;
    assert_eq!((run.status, run.attempt), (RunStatus::Completed, 1));
}

#[tokio::test(start_paused = true)]
async fn a_database_that_is_away_for_longer_ends_the_work() {
    let house = House::new();
    let queue = RecordingQueue::new(house.store.queue());
    house.comfy.script(PromptScript::taken(Then::Runs));
    house.submit(&plain_graph()).await.unwrap();
    let worker = Running::begin(house.worker_on(Arc::new(queue.clone())));
    house.comfy.wait_for_submissions(1).await;

    queue.set_away(true);
    tokio::time::sleep(Duration::from_secs(40)).await;
    queue.said();
    queue.set_away(false);
    tokio::time::sleep(Duration::from_secs(40)).await;

    assert_eq!(queue.said(), [""; 0]);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_long_run_keeps_its_claim() {
    let house = House::new();
    let queue = RecordingQueue::new(house.store.queue());
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let worker = Running::begin(house.worker_on(Arc::new(queue.clone())));
    house.comfy.wait_for_submissions(1).await;

    for _ in 0..10 {
        tokio::time::sleep(Duration::from_secs(12)).await;
        house.clock.advance(Duration::from_secs(12));
    }

    assert_eq!(house.store.queue().recover_expired(10).await.unwrap(), []);
    assert_eq!(house.run(run.id).await.attempt, 1);
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn many_runs_end_once_each() {
    let house = House::new();
    let mut runs = Vec::new();
    for _ in 0..30 {
        runs.push(house.submit(&plain_graph()).await.unwrap().id);
    }
    let workers = [house.start(), house.start()];

    for run in &runs {
        assert_eq!(house.ended(*run).await.status, RunStatus::Completed);
    }

    for worker in workers {
        worker.stop().await;
    }
    let mut submitted: Vec<_> = house
        .comfy
        .submissions()
        .iter()
        .map(|prompt| prompt.run_id)
        .collect();
    submitted.sort_unstable();
    runs.sort_unstable();
    assert_eq!(submitted, runs);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_followed_on_whichever_backend_it_lives() {
    let house = House::new();
    let other = ScriptedComfy::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    other.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let submitted = || house.comfy.submissions().len() + other.submissions().len();
    // Whichever backend claims it, the run is found where it lives.
    for attempt in 1..=3 {
        // The first in the list claims first.
        let backends = match attempt {
            1 => [("main", &house.comfy), ("other", &other)],
            _ => [("other", &other), ("main", &house.comfy)],
        };
        let worker = Running::begin(house.worker_with(&backends));
        wait_until("the next attempt", LONG, async || {
            house.run(run.id).await.attempt == attempt
        })
        .await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        worker.kill().await;
        house.clock.advance(Duration::from_mins(1));
        assert_eq!(submitted(), 1, "attempt {attempt}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_that_another_backend_has_is_collected_there() {
    let house = House::new();
    let other = ScriptedComfy::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    let run = house.submit(&plain_graph()).await.unwrap();
    let first = house.start();
    house.comfy.wait_for_submissions(1).await;
    first.stop().await;
    let output = house.comfy.put_image("2", "a.png", &b"a"[..]);
    house
        .comfy
        .set_state(&run.id.to_string(), success(vec![output]));

    // The first in the list claims first.
    let second = Running::begin(house.worker_with(&[("other", &other), ("main", &house.comfy)]));

    let run = house.ended(run.id).await;
    second.stop().await;
    assert_eq!((run.status, run.outputs.len()), (RunStatus::Completed, 1));
    assert!(other.submissions().is_empty());
}

/// In real time and on several threads: what only a race would show.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_hundred_runs_on_two_workers_end_once_each() {
    let house = House::new();
    let mut runs = Vec::new();
    for _ in 0..100 {
        runs.push(house.submit(&plain_graph()).await.unwrap().id);
    }
    let workers = [house.start(), house.start()];

    for run in &runs {
        let run = house.ended(*run).await;
        assert_eq!((run.status, run.outputs.len()), (RunStatus::Completed, 1));
    }

    for worker in workers {
        worker.stop().await;
    }
    assert_eq!(house.comfy.submissions().len(), runs.len());
}
