use atelier_domain::ports::{ClaimedRun, ReleaseReason, RunReport};
use atelier_domain::run::{
    MAX_ATTEMPTS, RunEventKind, RunFailureCode, RunPhase, RunProgress, RunStatus,
};

use super::{BACKEND, Harness, assert_over, is_lost, prompt_id_report};
use crate::build::a_claim;

impl Harness {
    async fn released(&self, claimed: &ClaimedRun, reason: ReleaseReason) -> RunStatus {
        let release = self.queue.release(claimed.run_id, claimed.token, reason);
        release.await.unwrap()
    }

    /// Releases a run that was submitted to its backend, and claims it for
    /// another one.
    async fn passed_on(&self, reason: ReleaseReason) -> ClaimedRun {
        let (alice, claimed) = self.running().await;
        let id = claimed.run_id;
        let queued = RunReport {
            phase: Some(RunPhase::Queued),
            ..prompt_id_report("prompt-1")
        };
        self.report(&claimed, queued).await;

        let status = self.released(&claimed, reason).await;

        assert_eq!(status, RunStatus::Pending);
        let run = self.run(&alice, id).await;
        assert_eq!((run.status, run.phase), (RunStatus::Pending, None));
        assert_eq!(run.completed_at, None);
        assert_eq!(run.error, None);
        assert!(is_lost(
            &self.queue.release(id, claimed.token, reason).await
        ));
        let history = self.history(&alice, id).await;
        assert_eq!(history, ["pending", "running", "pending"]);

        let next = self.claimed_by(a_claim("backend-2")).await;
        assert_eq!(next.run_id, id);
        assert_eq!(next.graph, claimed.graph);
        let again = self.run(&alice, id).await;
        assert_eq!(again.backend.as_deref(), Some("backend-2"));
        assert_eq!(again.attempt, next.attempt);
        assert_eq!(again.started_at, run.started_at, "the first attempt's");
        next
    }
}

/// A worker that stops in good order costs nothing, and the next one finds
/// what may still run.
pub async fn a_hand_over_counts_no_attempt_and_remembers_the_backend(h: &Harness) {
    let next = h.passed_on(ReleaseReason::HandOver).await;

    assert_eq!(next.attempt, 1);
    assert_eq!(next.comfyui_prompt_id.as_deref(), Some("prompt-1"));
    assert_eq!(next.earlier_backend.as_deref(), Some(BACKEND));
}

/// A worker that cannot go on costs an attempt, and the next one finds what
/// may still run.
pub async fn a_lost_worker_counts_an_attempt_and_remembers_the_backend(h: &Harness) {
    let next = h.passed_on(ReleaseReason::WorkerLost).await;

    assert_eq!(next.attempt, 2);
    assert_eq!(next.comfyui_prompt_id.as_deref(), Some("prompt-1"));
    assert_eq!(next.earlier_backend.as_deref(), Some(BACKEND));
}

/// What the backend forgot is submitted anew.
pub async fn a_lost_backend_counts_an_attempt_and_is_forgotten(h: &Harness) {
    let next = h.passed_on(ReleaseReason::BackendLost).await;

    assert_eq!(next.attempt, 2);
    assert_eq!(next.comfyui_prompt_id, None);
    assert_eq!(next.earlier_backend, None);
}

/// Losing the last attempt fails the run, and says why.
pub async fn the_last_attempt_fails_the_run(h: &Harness) {
    for reason in [ReleaseReason::WorkerLost, ReleaseReason::BackendLost] {
        let (alice, mut claimed) = h.running().await;
        let id = claimed.run_id;
        for attempt in 1..MAX_ATTEMPTS {
            assert_eq!(claimed.attempt, attempt);
            assert_eq!(h.released(&claimed, reason).await, RunStatus::Pending);
            claimed = h.claimed().await;
        }

        let status = h.released(&claimed, reason).await;

        assert_eq!(status, RunStatus::Failed);
        let run = h.run(&alice, id).await;
        assert_over(&run, RunStatus::Failed);
        assert_eq!(run.attempt, MAX_ATTEMPTS);
        let error = run.error.unwrap();
        assert_eq!(error.code, RunFailureCode::AttemptsExhausted);
        assert!(!error.message.is_empty());
        let errors = h.events_of(&alice, id, RunEventKind::Error).await;
        assert_eq!(errors.len(), 1);
        assert_eq!(h.queue.claim(a_claim(BACKEND)).await.unwrap(), None);
    }
}

/// However often workers hand it over, the run goes on.
pub async fn hand_overs_never_exhaust_a_run(h: &Harness) {
    let (alice, mut claimed) = h.running().await;
    for _ in 0..2 * MAX_ATTEMPTS {
        assert_eq!(claimed.attempt, 1);
        let status = h.released(&claimed, ReleaseReason::HandOver).await;
        assert_eq!(status, RunStatus::Pending);
        claimed = h.claimed().await;
    }

    let run = h.run(&alice, claimed.run_id).await;

    assert_eq!(run.status, RunStatus::Running);
}

/// Progress never falls within an attempt, so a new attempt begins at nothing.
pub async fn a_new_attempt_begins_its_progress_anew(h: &Harness) {
    let (alice, claimed) = h.running().await;
    let report = RunReport {
        progress: Some(RunProgress {
            value: 0.9,
            nodes_done: 6,
            nodes_total: claimed.nodes_total,
            ..RunProgress::default()
        }),
        ..RunReport::default()
    };
    h.report(&claimed, report).await;
    h.released(&claimed, ReleaseReason::BackendLost).await;

    let next = h.claimed().await;

    assert_eq!(next.nodes_total, claimed.nodes_total);
    let progress = h.run(&alice, claimed.run_id).await.progress;
    let fresh = RunProgress {
        nodes_total: claimed.nodes_total,
        ..RunProgress::default()
    };
    assert_eq!(progress, fresh);
}
