use atelier_application::runs::{
    EnqueueError, OnceOnly, RetryRequest, RetryRunError, Submission, SubmitRequest,
};
use atelier_domain::idempotency::StoredAnswer;
use atelier_domain::ids::RunId;
use atelier_domain::ports::{LoraRepo as _, WorkflowRepo as _, WriteOutcome};
use atelier_domain::run::{Run, RunPriority, RunStatus};
use atelier_testkit::build::{a_request_under, an_actor, an_answer};
use atelier_testkit::random_id;
use serde_json::json;

use crate::support::{House, LIMITS, enqueued, lora_graph, plain_graph};

async fn retry(
    house: &House,
    run: RunId,
    request: RetryRequest<'_>,
) -> Result<Submission, RetryRunError> {
    house.retries().execute(&house.actor, run, request).await
}

#[tokio::test(start_paused = true)]
async fn a_run_is_repeated_with_the_same_graph_and_loras_in_a_folder_of_its_own() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let workflow = house.workflow(&lora_graph("a.safetensors")).await;
    let request = SubmitRequest {
        input_params: json!({"width": 16}).as_object().unwrap().clone(),
        priority: RunPriority::LOWEST,
        timeout_s: Some(77),
        ..SubmitRequest::default()
    };
    let first = enqueued(
        house
            .submissions()
            .execute(&house.actor, workflow, request)
            .await
            .unwrap(),
    );
    house.complete_next().await;

    let again = enqueued(
        retry(&house, first.id, RetryRequest::default())
            .await
            .unwrap(),
    );

    assert_ne!(again.id, first.id);
    assert_eq!(
        (again.status, again.retry_of, again.workflow_id),
        (RunStatus::Pending, Some(first.id), Some(workflow))
    );
    assert_eq!(again.input_params, first.input_params);
    assert_eq!((again.priority.value(), again.timeout_s), (-10, 77));
    assert_eq!(again.progress.nodes_total, 3);
    let claimed = house.claimed().await;
    assert_eq!(claimed.lora_ids, [lora.id]);
    let graph = claimed.graph.parse().unwrap();
    assert_eq!(graph.node("1").unwrap().inputs()["width"], 16);
    let prefix = format!("user-{}/{}/plain", house.actor.user_id(), again.id);
    assert_eq!(graph.node("2").unwrap().inputs()["filename_prefix"], prefix);
    let path = lora.content.unwrap().comfyui_path.to_string();
    assert_eq!(graph.node("7").unwrap().inputs()["lora_name"], path);
}

#[tokio::test(start_paused = true)]
async fn a_run_is_repeated_though_its_workflow_is_gone() {
    let house = House::new();
    let first = house.submit(&plain_graph()).await.unwrap();
    house.complete_next().await;
    let workflow = first.workflow_id.unwrap();
    let workflows = house.store.workflows();
    assert_eq!(
        workflows
            .delete(&house.actor, workflow, None)
            .await
            .unwrap(),
        WriteOutcome::Done(())
    );

    let again = enqueued(
        retry(&house, first.id, RetryRequest::default())
            .await
            .unwrap(),
    );

    assert_eq!((again.retry_of, again.workflow_id), (Some(first.id), None));
}

#[tokio::test(start_paused = true)]
async fn priority_and_time_may_be_others() {
    let house = House::new();
    let first = house.submit(&plain_graph()).await.unwrap();
    house.complete_next().await;
    let request = |timeout_s| RetryRequest {
        priority: Some(RunPriority::HIGHEST),
        timeout_s: Some(timeout_s),
        ..RetryRequest::default()
    };

    let again = enqueued(retry(&house, first.id, request(5)).await.unwrap());
    let refused = retry(&house, first.id, request(1_201)).await;

    assert_eq!((again.priority.value(), again.timeout_s), (10, 5));
    let Err(RetryRunError::Invalid(violations)) = refused else {
        panic!("not refused: {refused:?}")
    };
    assert_eq!(violations[0].pointer, "/timeout_s");
}

#[tokio::test(start_paused = true)]
async fn a_time_that_was_allowed_once_is_cut_to_what_is_allowed_now() {
    let house = House::new();
    let first = house.submit(&plain_graph()).await.unwrap();
    house.complete_next().await;
    let mut retries = house.retries();
    retries.limits.max_timeout = std::time::Duration::from_secs(30);

    let again = retries
        .execute(&house.actor, first.id, RetryRequest::default())
        .await;

    assert_eq!(enqueued(again.unwrap()).timeout_s, 30);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_is_not_over_is_not_repeated() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;

    let waiting = retry(&house, run, RetryRequest::default()).await;
    house.claimed().await;
    let running = retry(&house, run, RetryRequest::default()).await;

    for (refused, status) in [(waiting, RunStatus::Pending), (running, RunStatus::Running)] {
        assert!(
            matches!(refused, Err(RetryRunError::NotFinished(stands)) if stands == status),
            "{refused:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_repeats_what_is_somebody_elses() {
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    house.complete_next().await;

    for (actor, id) in [
        (an_actor(), run),
        (house.actor.clone(), RunId::new(random_id())),
    ] {
        let refused = house
            .retries()
            .execute(&actor, id, RetryRequest::default())
            .await;
        assert!(
            matches!(refused, Err(RetryRunError::NotFound)),
            "{refused:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_lora_that_is_gone_is_named_where_it_is_used() {
    let house = House::new();
    house.lora("kept.safetensors", 1).await;
    let gone = house.lora("gone.safetensors", 2).await;
    let mut graph = lora_graph("gone.safetensors");
    graph["8"] = lora_graph("kept.safetensors")["7"].clone();
    let run = house.submit(&graph).await.unwrap().id;
    house.complete_next().await;
    let deleted = house.store.loras().delete(&house.actor, gone.id).await;
    assert_eq!(deleted.unwrap(), WriteOutcome::Done(()));

    let refused = retry(&house, run, RetryRequest::default()).await;

    let Err(RetryRunError::Invalid(violations)) = refused else {
        panic!("not refused: {refused:?}")
    };
    assert_eq!(violations.len(), 1, "{violations:?}");
    assert_eq!(violations[0].pointer, "/workflow_json/7/inputs/lora_name");
    assert!(
        violations[0].detail.contains("gone.safetensors"),
        "{violations:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_retry_counts_among_the_runs_that_wait_and_comes_once_under_its_key() {
    fn answer(run: &Run) -> StoredAnswer {
        an_answer(&run.id.to_string())
    }
    let house = House::new();
    let run = house.submit(&plain_graph()).await.unwrap().id;
    house.complete_next().await;
    let request = || RetryRequest {
        once: Some(OnceOnly {
            request: a_request_under("k", ""),
            answer: &answer,
        }),
        ..RetryRequest::default()
    };

    let first = enqueued(retry(&house, run, request()).await.unwrap());
    for _ in 1..LIMITS.max_pending {
        retry(&house, run, RetryRequest::default()).await.unwrap();
    }
    let refused = retry(&house, run, RetryRequest::default()).await;
    let again = retry(&house, run, request()).await;

    assert!(
        matches!(
            refused,
            Err(RetryRunError::Enqueue(EnqueueError::TooManyPending { .. }))
        ),
        "{refused:?}"
    );
    assert_eq!(again.unwrap(), Submission::Replayed(answer(&first)));
}
