//! What a worker tells about its work besides its outcome.

use std::time::Duration;

use atelier_application::runs::{RetryRequest, SubmitRequest};
use atelier_domain::ports::Measurement;
use atelier_domain::run::{RunFailureCode, RunPhase, RunStatus};
use atelier_testkit::{PromptScript, Then, wait_until};

use crate::support::{House, LONG, enqueued, lora_graph, plain_graph};

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// The phases that were measured, each on this backend.
fn phases(house: &House) -> Vec<RunPhase> {
    let all = house.observed.of_runs().into_iter();
    let phases = all.filter_map(|measurement| match measurement {
        Measurement::PhaseEnded { backend, phase, .. } => {
            assert_eq!(backend, "main");
            Some(phase)
        }
        _ => None,
    });
    phases.collect()
}

/// How runs ended, by status and code.
fn endings(house: &House) -> Vec<(RunStatus, Option<String>)> {
    let all = house.observed.of_runs().into_iter();
    let ends = all.filter_map(|measurement| match measurement {
        Measurement::RunEnded { status, code, .. } => Some((status, code)),
        _ => None,
    });
    ends.collect()
}

#[tokio::test(start_paused = true)]
async fn a_run_is_measured_phase_by_phase_with_its_copies_and_its_end() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let size_bytes = lora.content.unwrap().file_size;

    house.execute(&lora_graph("a.safetensors")).await;

    let phases = phases(&house);
    assert_eq!(phases.first(), Some(&RunPhase::SyncingLoras), "{phases:?}");
    assert_eq!(phases.last(), Some(&RunPhase::StoringOutputs), "{phases:?}");
    assert!(phases.contains(&RunPhase::Submitting), "{phases:?}");
    assert_eq!(endings(&house), [(RunStatus::Completed, None)]);
    let copied = house.observed.of_runs().into_iter().find_map(|measured| {
        let Measurement::LoraCopied { backend, bytes, .. } = measured else {
            return None;
        };
        Some((backend, bytes))
    });
    assert_eq!(copied, Some(("main".to_owned(), size_bytes)));
}

#[tokio::test(start_paused = true)]
async fn a_failure_is_measured_with_its_code() {
    let house = House::new();
    let lora = house.lora("a.safetensors", 1).await;
    let run = house.submit(&lora_graph("a.safetensors")).await.unwrap();
    house
        .blobs
        .put(&lora.blob_key, atelier_testkit::build::safetensors_bytes(2));
    let worker = house.start();

    house.ended(run.id).await;

    worker.stop().await;
    let code = RunFailureCode::LoraSyncFailed.as_str().to_owned();
    assert_eq!(endings(&house), [(RunStatus::Failed, Some(code))]);
}

#[tokio::test(start_paused = true)]
async fn a_run_that_goes_back_into_the_queue_is_released_and_not_over() {
    let house = House::new();
    house.comfy.script(PromptScript::taken(Then::Runs));
    house.submit(&plain_graph()).await.unwrap();
    let worker = house.start();
    house.comfy.wait_for_submissions(1).await;

    worker.stop().await;

    assert_eq!(endings(&house), []);
    let released = Measurement::RunReleased {
        backend: "main".to_owned(),
    };
    assert!(house.observed.of_runs().contains(&released));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_goes_away_is_seen_to_be_down() {
    let house = House::new();
    let worker = house.start();
    wait_until("the backend to be seen", LONG, async || {
        house.observed.looks_at("main").contains(&true)
    })
    .await;

    house.comfy.outage().begin();

    wait_until("the backend to be down", LONG, async || {
        house.observed.looks_at("main").contains(&false)
    })
    .await;
    worker.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_run_goes_on_with_the_trace_of_the_request_that_asked_for_it() {
    let house = House::new();
    let workflow = house.workflow(&plain_graph()).await;
    let request = SubmitRequest {
        trace_parent: Some(PARENT.to_owned()),
        ..SubmitRequest::default()
    };
    let asked = house.submissions();
    let asked = asked.execute(&house.actor, workflow, request).await;
    let first = enqueued(asked.unwrap()).id;
    let worker = house.start();
    house.ended(first).await;
    let again = RetryRequest {
        trace_parent: Some(PARENT.replace("b7ad", "c8be")),
        ..RetryRequest::default()
    };
    let retried = house.retries().execute(&house.actor, first, again).await;
    house.ended(enqueued(retried.unwrap()).id).await;
    worker.stop().await;

    assert_eq!(
        house.observed.parents(),
        [PARENT.to_owned(), PARENT.replace("b7ad", "c8be")]
    );
}

#[tokio::test(start_paused = true)]
async fn a_trace_that_cannot_be_one_is_left_out_and_the_run_is_not() {
    let house = House::new();
    let workflow = house.workflow(&plain_graph()).await;
    for parent in ["", &"0".repeat(101), "00-ä"] {
        let request = SubmitRequest {
            trace_parent: Some(parent.to_owned()),
            ..SubmitRequest::default()
        };
        let asked = house.submissions();
        let asked = asked.execute(&house.actor, workflow, request).await;
        enqueued(asked.unwrap());

        assert_eq!(house.claimed().await.trace_parent, None, "{parent}");
        tokio::time::advance(Duration::from_secs(1)).await;
    }
}
