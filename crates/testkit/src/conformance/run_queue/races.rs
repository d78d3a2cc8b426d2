use std::collections::HashMap;
use std::sync::Arc;

use atelier_domain::ids::{ClaimToken, RunId};
use atelier_domain::ports::{RunReport, WriteOutcome};
use atelier_domain::run::{RunEventKind, RunProgress, RunStatus};
use tokio::task::JoinSet;

use super::{BACKEND, BRIEF, Harness};
use crate::build::{a_claim, an_actor, next_time};

/// Reports, heartbeats and the owner's request at the same time: all succeed,
/// each report is told, and the sequence has no gap.
pub async fn events_of_writers_at_once_have_no_gap(h: &Harness) {
    const EACH: u32 = 10;
    let (alice, claimed) = h.running().await;
    let (id, token) = (claimed.run_id, claimed.token);
    let mut writers = JoinSet::new();
    for writer in 0..4 {
        let queue = Arc::clone(&h.queue);
        writers.spawn(async move {
            for step in 0..EACH {
                let report = RunReport {
                    progress: Some(RunProgress {
                        step: Some(writer * EACH + step + 1),
                        ..RunProgress::default()
                    }),
                    ..RunReport::default()
                };
                queue.report(id, token, report).await.unwrap();
                queue.heartbeat(id, token, BRIEF * 100).await.unwrap();
            }
        });
    }
    h.request_cancel(&alice, id).await;
    writers.join_all().await;

    let progress = h.events_of(&alice, id, RunEventKind::Progress).await;

    let mut steps: Vec<_> = progress
        .iter()
        .filter_map(|event| event.data.get("step").and_then(serde_json::Value::as_u64))
        .collect();
    steps.sort_unstable();
    let expected: Vec<_> = (1..=u64::from(4 * EACH)).collect();
    assert_eq!(steps, expected);
}

/// A request to cancel that meets a claim either ends the run before anybody
/// has it, or reaches whoever has it.
pub async fn a_cancellation_is_never_lost_to_a_claim(h: &Harness) {
    const RUNS: usize = 24;
    let alice = an_actor();
    let mut ids = Vec::new();
    for _ in 0..RUNS {
        ids.push(h.enqueued(&alice).await);
    }
    let mut claimers = JoinSet::new();
    for _ in 0..2 {
        let queue = Arc::clone(&h.queue);
        claimers.spawn(async move {
            let mut claims = Vec::new();
            while let Some(run) = crate::claim(&*queue, a_claim(BACKEND)).await {
                claims.push((run.run_id, run.token));
            }
            claims
        });
    }
    for id in ids.iter().rev() {
        let outcome = h.runs.request_cancel(&alice, *id, next_time()).await;
        assert!(matches!(outcome.unwrap(), WriteOutcome::Done(_)));
    }
    let claims: HashMap<RunId, ClaimToken> =
        claimers.join_all().await.concat().into_iter().collect();

    for id in ids {
        let run = h.run(&alice, id).await;
        let history = h.history(&alice, id).await;
        if let Some(token) = claims.get(&id) {
            assert_eq!(history, ["pending", "running"]);
            let beat = h.queue.heartbeat(id, *token, BRIEF * 100).await.unwrap();
            assert!(beat.cancel_requested, "the request was lost");
        } else {
            assert_eq!(run.status, RunStatus::Cancelled);
            assert_eq!(history, ["pending", "cancelled"]);
        }
    }
}
