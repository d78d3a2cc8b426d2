use atelier_domain::page::PageRequest;
use atelier_domain::ports::{ReleaseReason, RunReport, WriteOutcome};
use atelier_domain::run::{
    RunEventKind, RunFailure, RunFailureCode, RunFilter, RunPhase, RunProgress, RunStatus,
};
use serde_json::json;

use super::{Harness, assert_over, is_lost};
use crate::build::{an_output, next_time};

/// Outputs come back by their indexes, whatever the order in which they are
/// given, each with an event before that of the end.
pub async fn completing_stores_the_outputs_in_order(h: &Harness) {
    let (alice, claimed) = h.running().await;
    let id = claimed.run_id;
    let mut outputs: Vec<_> = (0..12).map(|index| an_output(id, index)).collect();
    if let Some(output) = outputs.first_mut() {
        output.dimensions = None;
        "ünï \"q\" \\ '.png".clone_into(&mut output.filename);
    }
    let mut shuffled = outputs.clone();
    shuffled.rotate_left(5);
    h.report(
        &claimed,
        RunReport {
            phase: Some(RunPhase::StoringOutputs),
            ..RunReport::default()
        },
    )
    .await;

    h.queue.complete(id, claimed.token, shuffled).await.unwrap();

    let run = h.run(&alice, id).await;
    assert_over(&run, RunStatus::Completed);
    assert_eq!(run.outputs, outputs);
    assert_eq!(run.error, None);
    let listed = h
        .runs
        .list(&alice, RunFilter::default(), PageRequest::default())
        .await
        .unwrap();
    assert_eq!(listed.items.first().map(|run| &run.outputs), Some(&outputs));
    let stored = h.events_of(&alice, id, RunEventKind::Output).await;
    let mut named: Vec<_> = stored.iter().map(|event| event.data.clone()).collect();
    named.sort_by_key(|data| data.get("index").and_then(serde_json::Value::as_u64));
    let expected: Vec<_> = outputs
        .iter()
        .map(|output| json!({"index": output.index, "filename": output.filename}))
        .collect();
    assert_eq!(named, expected);
    let last = h.events(&alice, id).await.pop().unwrap();
    assert_eq!(last.data, json!({"status": "completed", "attempt": 1}));
}

/// Whether a run without outputs is good, the worker decides, not the queue.
pub async fn completing_without_outputs_is_completing(h: &Harness) {
    let (alice, claimed) = h.running().await;

    let outcome = h.queue.complete(claimed.run_id, claimed.token, vec![]);
    outcome.await.unwrap();

    let run = h.run(&alice, claimed.run_id).await;
    assert_over(&run, RunStatus::Completed);
    assert_eq!(run.outputs, []);
}

/// Of a short run no progress is ever reported; completed is completed.
pub async fn a_completed_run_has_made_all_its_progress(h: &Harness) {
    let (alice, claimed) = h.running().await;

    let outcome = h.queue.complete(claimed.run_id, claimed.token, vec![]);
    outcome.await.unwrap();

    let run = h.run(&alice, claimed.run_id).await;
    assert!(run.progress.nodes_total > 0, "{run:?}");
    assert_eq!(
        run.progress,
        RunProgress {
            value: 1.0,
            nodes_done: run.progress.nodes_total,
            nodes_total: run.progress.nodes_total,
            ..RunProgress::default()
        }
    );
}

/// A failed run keeps every word of the reason, and its outputs.
pub async fn failing_keeps_the_reason_and_what_outputs_there_are(h: &Harness) {
    for code in RunFailureCode::ALL {
        let (alice, claimed) = h.running().await;
        let id = claimed.run_id;
        let failure = RunFailure::new(*code, "What happened, \"quoted\", and what to do.")
            .at_node(Some("3".to_owned()), Some("KSampler".to_owned()));
        let outputs = vec![an_output(id, 0)];

        let outcome = h
            .queue
            .fail(id, claimed.token, failure.clone(), outputs.clone())
            .await;

        outcome.unwrap();
        let run = h.run(&alice, id).await;
        assert_over(&run, RunStatus::Failed);
        assert_eq!(run.error, Some(failure.clone()));
        assert_eq!(run.outputs, outputs);
        let errors = h.events_of(&alice, id, RunEventKind::Error).await;
        let told: Vec<_> = errors.iter().map(|event| event.data.clone()).collect();
        let expected = json!({
            "code": code.as_str(), "message": failure.message,
            "node_id": "3", "node_type": "KSampler"
        });
        assert_eq!(told, [expected]);
        assert_eq!(
            h.history(&alice, id).await,
            ["pending", "running", "failed"]
        );
    }
}

/// A cancelled run keeps what was made until then.
pub async fn cancelling_keeps_what_outputs_there_are(h: &Harness) {
    let (alice, claimed) = h.running().await;
    let id = claimed.run_id;
    h.request_cancel(&alice, id).await;
    let outputs = vec![an_output(id, 0), an_output(id, 1)];

    let outcome = h.queue.cancelled(id, claimed.token, outputs.clone()).await;

    outcome.unwrap();
    let run = h.run(&alice, id).await;
    assert_over(&run, RunStatus::Cancelled);
    assert_eq!(run.outputs, outputs);
    assert_eq!(run.error, None);
    assert_eq!(
        h.history(&alice, id).await,
        ["pending", "running", "cancelled"]
    );
}

/// The end of a run ends its claim, for every way to end and every write, and
/// its owner's cancellation comes too late.
pub async fn an_ended_run_is_out_of_reach(h: &Harness) {
    for ending in 0..3 {
        let (alice, claimed) = h.running().await;
        let (id, token) = (claimed.run_id, claimed.token);
        let failure = || RunFailure::new(RunFailureCode::ExecutionFailed, "It broke.");
        match ending {
            0 => h.queue.complete(id, token, vec![]).await.unwrap(),
            1 => h.queue.fail(id, token, failure(), vec![]).await.unwrap(),
            _ => h.queue.cancelled(id, token, vec![]).await.unwrap(),
        }
        let over = h.run(&alice, id).await;
        let events = h.events(&alice, id).await;

        let reason = ReleaseReason::WorkerLost;
        assert!(is_lost(&h.queue.heartbeat(id, token, super::SHORT).await));
        assert!(is_lost(&h.queue.release(id, token, reason).await));
        assert!(is_lost(&h.queue.complete(id, token, vec![]).await));
        assert!(is_lost(&h.queue.cancelled(id, token, vec![]).await));
        assert!(is_lost(&h.queue.fail(id, token, failure(), vec![]).await));
        let cancel = h.runs.request_cancel(&alice, id, next_time()).await;

        assert_eq!(cancel.unwrap(), WriteOutcome::Stale(over.clone()));
        assert_eq!(h.run(&alice, id).await, over);
        assert_eq!(h.events(&alice, id).await, events);
        let recovered = h.queue.recover_expired(100).await.unwrap();
        assert_eq!(recovered, []);
    }
}
