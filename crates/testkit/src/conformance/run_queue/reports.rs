use std::time::Duration;

use atelier_domain::ids::{ClaimToken, RunId};
use atelier_domain::ports::{ReleaseReason, RunReport};
use atelier_domain::run::{
    RunEvent, RunEventKind, RunFailure, RunFailureCode, RunPhase, RunProgress, RunStatus,
};
use serde_json::{Value, json};

use super::{Harness, a_short_claim, is_lost, prompt_id_report};
use crate::build::{an_actor, an_output};
use crate::random_id;

const MINUTE: Duration = Duration::from_mins(1);

fn halfway() -> RunProgress {
    RunProgress {
        value: 0.5,
        nodes_done: 3,
        nodes_total: 7,
        current_node: Some("3".to_owned()),
        step: Some(2),
        steps: Some(4),
        lora_bytes_done: Some(5_000_000_000),
        lora_bytes_total: Some(6_000_000_000),
    }
}

/// A running run goes on until its worker notices.
pub async fn a_running_run_is_not_cancelled_at_once(h: &Harness) {
    let (alice, claimed) = h.running().await;

    let asked = h.request_cancel(&alice, claimed.run_id).await;

    assert_eq!(asked.status, RunStatus::Running);
    let run = h.run(&alice, claimed.run_id).await;
    assert_eq!(run.status, RunStatus::Running);
    assert_eq!(run.completed_at, None);
}

/// Asking again is taken, and changes nothing.
pub async fn asking_twice_for_the_end_changes_nothing(h: &Harness) {
    let (alice, claimed) = h.running().await;
    h.request_cancel(&alice, claimed.run_id).await;
    let (run, events) = (
        h.run(&alice, claimed.run_id).await,
        h.events(&alice, claimed.run_id).await,
    );

    h.request_cancel(&alice, claimed.run_id).await;

    assert_eq!(h.run(&alice, claimed.run_id).await, run);
    assert_eq!(h.events(&alice, claimed.run_id).await, events);
}

/// What the owner asked reaches the worker with the next heartbeat.
pub async fn a_heartbeat_says_whether_to_cancel(h: &Harness) {
    let (alice, claimed) = h.running().await;
    let beat = async || {
        let beat = h.queue.heartbeat(claimed.run_id, claimed.token, MINUTE);
        beat.await.unwrap().cancel_requested
    };

    assert!(!beat().await);
    h.request_cancel(&alice, claimed.run_id).await;
    assert!(beat().await);
    assert!(beat().await);
}

/// Members that a report does not name stay as they are.
pub async fn reports_keep_what_they_do_not_name(h: &Harness) {
    let (alice, claimed) = h.running().await;
    let executing = RunReport {
        phase: Some(RunPhase::Executing),
        ..RunReport::default()
    };
    let progress = RunReport {
        progress: Some(halfway()),
        ..RunReport::default()
    };

    h.report(&claimed, prompt_id_report("prompt-1")).await;
    h.report(&claimed, executing).await;
    h.report(&claimed, progress).await;
    h.report(&claimed, RunReport::default()).await;

    let run = h.run(&alice, claimed.run_id).await;
    assert_eq!(run.comfyui_prompt_id.as_deref(), Some("prompt-1"));
    assert_eq!(run.phase, Some(RunPhase::Executing));
    assert_eq!(run.progress, halfway());
    assert_eq!(run.status, RunStatus::Running);
}

/// Each phase and each progress is told, in order, with its members.
pub async fn every_report_that_changes_something_is_an_event(h: &Harness) {
    let (alice, claimed) = h.running().await;
    for phase in RunPhase::ALL {
        let report = RunReport {
            phase: Some(phase),
            ..RunReport::default()
        };
        h.report(&claimed, report).await;
    }
    let report = RunReport {
        progress: Some(halfway()),
        ..RunReport::default()
    };
    h.report(&claimed, report).await;

    let data = |events: Vec<RunEvent>| -> Vec<Value> {
        events.into_iter().map(|event| event.data).collect()
    };
    let phases = h.events_of(&alice, claimed.run_id, RunEventKind::Phase);
    let expected = RunPhase::ALL.map(|phase| json!({"phase": phase.as_str()}));
    assert_eq!(data(phases.await), expected);
    let progress = h.events_of(&alice, claimed.run_id, RunEventKind::Progress);
    let expected = json!({
        "value": 0.5, "nodes_done": 3, "nodes_total": 7,
        "current_node": "3", "step": 2, "steps": 4,
        "lora_bytes_done": 5_000_000_000_u64, "lora_bytes_total": 6_000_000_000_u64
    });
    assert_eq!(data(progress.await), [expected]);
}

/// Zero, one, a third, and the largest counts that ComfyUI could give.
pub async fn numbers_of_a_report_are_read_back(h: &Harness) {
    let (alice, claimed) = h.running().await;
    let largest = u32::try_from(i32::MAX).unwrap();
    for (value, count) in [(0.0, 0), (1.0 / 3.0, 1), (1.0, largest)] {
        let progress = RunProgress {
            value,
            nodes_done: count,
            nodes_total: count,
            current_node: None,
            step: Some(count),
            steps: None,
            lora_bytes_done: Some(count.into()),
            lora_bytes_total: None,
        };
        let report = RunReport {
            progress: Some(progress.clone()),
            ..RunReport::default()
        };
        h.report(&claimed, report).await;

        assert_eq!(h.run(&alice, claimed.run_id).await.progress, progress);
    }
}

/// Tries every write of a worker; says that each was refused.
async fn assert_fenced(h: &Harness, id: RunId, token: ClaimToken) {
    let failure = RunFailure::new(RunFailureCode::ExecutionFailed, "It broke.");
    let report = RunReport {
        phase: Some(RunPhase::Executing),
        comfyui_prompt_id: Some("stolen".to_owned()),
        progress: Some(halfway()),
    };
    let outputs = || vec![an_output(id, 0)];
    let queue = &h.queue;
    assert!(is_lost(&queue.heartbeat(id, token, MINUTE).await));
    assert!(is_lost(&queue.report(id, token, report).await));
    assert!(is_lost(&queue.complete(id, token, outputs()).await));
    assert!(is_lost(&queue.fail(id, token, failure, outputs()).await));
    assert!(is_lost(&queue.cancelled(id, token, outputs()).await));
    for reason in [
        ReleaseReason::HandOver { may_live: true },
        ReleaseReason::HandOver { may_live: false },
        ReleaseReason::WorkerLost,
        ReleaseReason::BackendAway,
        ReleaseReason::BackendLost,
        ReleaseReason::ExecutionLost,
    ] {
        assert!(is_lost(&queue.release(id, token, reason).await));
    }
}

/// Another claim's token, also one that holds another run, moves nothing; nor
/// does any token move a run that waits or does not exist.
pub async fn a_foreign_token_changes_nothing(h: &Harness) {
    let (alice, claimed) = h.running().await;
    let (_, other) = h.running().await;
    let waiting = h.enqueued(&alice).await;
    let absent = RunId::new(random_id());
    for id in [claimed.run_id, waiting, absent] {
        let before = if id == absent {
            None
        } else {
            Some((h.run(&alice, id).await, h.events(&alice, id).await))
        };

        assert_fenced(h, id, other.token).await;
        assert_fenced(h, id, ClaimToken::new(random_id())).await;

        if let Some(before) = before {
            let after = (h.run(&alice, id).await, h.events(&alice, id).await);
            assert_eq!(after, before);
        }
    }
}

/// Once another worker has the run, the first one's writes all miss.
pub async fn a_lost_claim_changes_nothing(h: &Harness) {
    let alice = an_actor();
    let id = h.enqueued(&alice).await;
    let first = h.claimed_by(a_short_claim()).await;
    h.recovered(id).await;
    let waiting = h.run(&alice, id).await;
    assert_fenced(h, id, first.token).await;
    assert_eq!(h.run(&alice, id).await, waiting);

    let second = h.claimed().await;
    assert_eq!((second.run_id, second.attempt), (id, 2));
    let before = (h.run(&alice, id).await, h.events(&alice, id).await);

    assert_fenced(h, id, first.token).await;

    let after = (h.run(&alice, id).await, h.events(&alice, id).await);
    assert_eq!(after, before);
    h.queue.complete(id, second.token, vec![]).await.unwrap();
}
