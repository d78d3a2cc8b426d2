//! Requests under a key, and what a request may ask of the queue.

use std::sync::Arc;

use atelier_application::runs::{
    EnqueueError, OnceOnly, Submission, SubmitRequest, SubmitRun, SubmitRunError,
};
use atelier_domain::idempotency::{EarlierRequest, StoredAnswer};
use atelier_domain::ids::WorkflowId;
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{MockRunRepo, RunRepo as _, WorkflowRepo as _, WriteOutcome};
use atelier_domain::run::{Run, RunFilter, RunPriority};
use atelier_testkit::build::{a_request_under, an_answer};

use crate::support::{House, LIMITS, enqueued, graph_with, plain_graph};

fn answer(run: &Run) -> StoredAnswer {
    an_answer(&run.id.to_string())
}

/// A request under `key` with this body.
fn under(key: &str, body: &str) -> SubmitRequest<'static> {
    SubmitRequest {
        once: Some(OnceOnly {
            request: a_request_under(key, body),
            answer: &answer,
        }),
        ..SubmitRequest::default()
    }
}

async fn submit(
    house: &House,
    workflow: WorkflowId,
    request: SubmitRequest<'_>,
) -> Result<Submission, SubmitRunError> {
    house
        .submissions()
        .execute(&house.actor, workflow, request)
        .await
}

async fn count(house: &House) -> usize {
    let runs = house.store.runs();
    runs.list(&house.actor, RunFilter::default(), PageRequest::default())
        .await
        .unwrap()
        .items
        .len()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_again_gets_the_same_answer_and_no_second_run() {
    let house = House::new();
    let workflow = house.workflow(&plain_graph()).await;

    let first = submit(&house, workflow, under("k", "b")).await.unwrap();
    let again = submit(&house, workflow, under("k", "b")).await.unwrap();

    let Submission::Enqueued {
        run,
        answer: Some(stored),
    } = first
    else {
        panic!("not enqueued: {first:?}")
    };
    assert_eq!(stored, answer(&run));
    assert_eq!(again, Submission::Replayed(stored));
    assert_eq!(count(&house).await, 1);
}

#[tokio::test(start_paused = true)]
async fn the_answer_is_given_again_though_the_workflow_is_gone() {
    let house = House::new();
    let workflow = house.workflow(&plain_graph()).await;
    submit(&house, workflow, under("k", "b")).await.unwrap();
    let workflows = house.store.workflows();
    assert_eq!(
        workflows
            .delete(&house.actor, workflow, None)
            .await
            .unwrap(),
        WriteOutcome::Done(())
    );

    let again = submit(&house, workflow, under("k", "b")).await;
    let other = submit(&house, workflow, under("another", "b")).await;

    assert!(matches!(again, Ok(Submission::Replayed(_))), "{again:?}");
    assert!(
        matches!(other, Err(SubmitRunError::WorkflowNotFound)),
        "{other:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn another_body_under_the_same_key_is_refused() {
    let house = House::new();
    let workflow = house.workflow(&plain_graph()).await;
    submit(&house, workflow, under("k", "b")).await.unwrap();

    let refused = submit(&house, workflow, under("k", "other")).await;

    assert!(
        matches!(
            refused,
            Err(SubmitRunError::Enqueue(EnqueueError::KeyReused))
        ),
        "{refused:?}"
    );
    assert_eq!(count(&house).await, 1);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_being_answered_is_not_carried_out_again() {
    let house = House::new();
    let workflow = house.workflow(&plain_graph()).await;
    let mut runs = MockRunRepo::new();
    runs.expect_earlier_request()
        .returning(|_, _| Ok(Some(EarlierRequest::Underway)));
    let submissions = SubmitRun {
        runs: Arc::new(runs),
        ..house.submissions()
    };

    let refused = submissions
        .execute(&house.actor, workflow, under("k", "b"))
        .await;

    assert!(
        matches!(
            refused,
            Err(SubmitRunError::Enqueue(EnqueueError::KeyUnderway))
        ),
        "{refused:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_not_remembered() {
    let house = House::new();
    let broken = house
        .workflow(&graph_with(
            "LoraLoader",
            &serde_json::json!({"lora_name": "../x"}),
        ))
        .await;
    let good = house.workflow(&plain_graph()).await;

    let refused = submit(&house, broken, under("k", "b")).await;
    let accepted = submit(&house, good, under("k", "b")).await;

    assert!(
        matches!(refused, Err(SubmitRunError::Invalid(_))),
        "{refused:?}"
    );
    assert!(
        matches!(accepted, Ok(Submission::Enqueued { .. })),
        "{accepted:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_has_more_runs_waiting_than_may_be() {
    let house = House::new();
    let workflow = house.workflow(&plain_graph()).await;
    for _ in 0..LIMITS.max_pending {
        submit(&house, workflow, SubmitRequest::default())
            .await
            .unwrap();
    }

    let refused = submit(&house, workflow, SubmitRequest::default()).await;
    house.claimed().await;
    let accepted = submit(&house, workflow, SubmitRequest::default()).await;

    assert!(
        matches!(
            refused,
            Err(SubmitRunError::Enqueue(EnqueueError::TooManyPending { limit })) if limit == LIMITS.max_pending
        ),
        "{refused:?}"
    );
    assert!(accepted.is_ok(), "{accepted:?}");
}

#[tokio::test(start_paused = true)]
async fn a_run_has_the_priority_and_the_time_that_were_asked_for() {
    let house = House::new();
    let workflow = house.workflow(&plain_graph()).await;
    let request = SubmitRequest {
        priority: RunPriority::HIGHEST,
        timeout_s: Some(7),
        ..SubmitRequest::default()
    };

    let plain = enqueued(
        submit(&house, workflow, SubmitRequest::default())
            .await
            .unwrap(),
    );
    let asked = enqueued(submit(&house, workflow, request).await.unwrap());

    assert_eq!((plain.priority.value(), plain.timeout_s), (0, 600));
    assert_eq!((asked.priority.value(), asked.timeout_s), (10, 7));
    assert_eq!(house.claimed().await.run_id, asked.id);
}

#[tokio::test(start_paused = true)]
async fn more_time_than_there_may_be_is_refused_with_everything_else_that_is_wrong() {
    let house = House::new();
    let workflow = house
        .workflow(&graph_with(
            "LoraLoader",
            &serde_json::json!({"lora_name": "../x"}),
        ))
        .await;

    for seconds in [0, 1_201] {
        let request = SubmitRequest {
            timeout_s: Some(seconds),
            ..SubmitRequest::default()
        };
        let refused = submit(&house, workflow, request).await;

        let Err(SubmitRunError::Invalid(violations)) = refused else {
            panic!("not refused: {refused:?}")
        };
        let pointers: Vec<&str> = violations
            .iter()
            .map(|fault| fault.pointer.as_str())
            .collect();
        assert_eq!(
            pointers,
            ["/timeout_s", "/workflow_json/7/inputs/lora_name"]
        );
    }
}
