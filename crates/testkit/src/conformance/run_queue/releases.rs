use atelier_domain::actor::Actor;
use atelier_domain::ports::{ClaimOutcome, ClaimedRun, ReleaseReason, RunReport};
use atelier_domain::run::{RunEventKind, RunFailure, RunLoss, RunPhase, RunProgress, RunStatus};

use super::{BACKEND, BRIEF, Harness, assert_over, is_lost, prompt_id_report};
use crate::build::a_claim;

impl Harness {
    pub(super) async fn released(&self, claimed: &ClaimedRun, reason: ReleaseReason) -> RunStatus {
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

        assert_eq!(run.backend, None);

        // Only the backend that may have it gets it; any, if there is none.
        let (elsewhere, here) = (a_claim("backend-2"), a_claim(BACKEND));
        let next = if reason.may_live() {
            let other = self.queue.claim(elsewhere).await.unwrap();
            assert_eq!(other, ClaimOutcome::Nothing);
            self.claimed_by(here).await
        } else {
            self.claimed_by(elsewhere).await
        };
        assert_eq!(next.run_id, id);
        assert_eq!(next.graph, claimed.graph);
        let again = self.run(&alice, id).await;
        assert_eq!(again.attempt, next.attempt);
        assert_eq!(again.started_at, run.started_at, "the first attempt's");
        next
    }
}

/// A worker that stops in good order costs nothing, and the next one finds
/// what may still run.
pub async fn a_hand_over_counts_no_attempt_and_remembers_the_backend(h: &Harness) {
    let next = h
        .passed_on(ReleaseReason::HandOver { may_live: true })
        .await;

    assert_eq!(next.attempt, 1);
    assert_eq!(next.resumes.as_deref(), Some("prompt-1"));
}

/// What was never submitted may go anywhere.
pub async fn a_hand_over_of_what_runs_nowhere_leaves_the_run_to_all(h: &Harness) {
    let reason = ReleaseReason::HandOver { may_live: false };

    let next = h.passed_on(reason).await;

    assert_eq!((next.attempt, next.resumes), (1, None));
}

/// A worker that cannot go on, and a backend that is away, cost an attempt,
/// and the next one finds what may still run.
pub async fn a_lost_worker_counts_an_attempt_and_remembers_the_backend(h: &Harness) {
    for reason in [ReleaseReason::WorkerLost, ReleaseReason::BackendAway] {
        let next = h.passed_on(reason).await;

        assert_eq!(next.attempt, 2);
        assert_eq!(next.resumes.as_deref(), Some("prompt-1"));
        h.queue
            .complete(next.run_id, next.token, vec![])
            .await
            .unwrap();
    }
}

/// What the backend forgot is submitted anew, by any.
pub async fn a_lost_backend_counts_an_attempt_and_is_forgotten(h: &Harness) {
    for reason in [ReleaseReason::BackendLost, ReleaseReason::ExecutionLost] {
        let next = h.passed_on(reason).await;

        assert_eq!((next.attempt, next.resumes), (2, None));
    }
}

/// A run that was given back before any name of a backend's was reported is
/// looked up under its own id.
pub async fn a_run_of_a_lost_worker_may_live_under_its_own_id(h: &Harness) {
    let (_, claimed) = h.running().await;
    h.released(&claimed, ReleaseReason::WorkerLost).await;

    let next = h.claimed().await;

    assert_eq!(next.resumes, Some(claimed.run_id.to_string()));
}

/// The last loss of a class fails the run, and says why; other classes have
/// budgets of their own.
pub async fn each_class_of_losses_has_its_own_budget(h: &Harness) {
    for last in [
        ReleaseReason::WorkerLost,
        ReleaseReason::BackendAway,
        ReleaseReason::BackendLost,
        ReleaseReason::ExecutionLost,
    ] {
        let (alice, mut claimed) = h.running().await;
        let id = claimed.run_id;
        let mut attempts = 1;
        for reason in [
            ReleaseReason::WorkerLost,
            ReleaseReason::BackendLost,
            ReleaseReason::ExecutionLost,
        ] {
            let budget = reason.loss().map_or(0, RunLoss::budget);
            for _ in 1..budget {
                assert_eq!(h.released(&claimed, reason).await, RunStatus::Pending);
                claimed = h.claimed().await;
                attempts += 1;
                assert_eq!((claimed.run_id, claimed.attempt), (id, attempts));
            }
        }

        let status = h.released(&claimed, last).await;

        assert_eq!(status, RunStatus::Failed);
        let run = h.run(&alice, id).await;
        assert_over(&run, RunStatus::Failed);
        assert_eq!(run.attempt, attempts);
        let loss = last.loss().unwrap();
        assert_eq!(run.error, Some(RunFailure::exhausted(loss, loss.budget())));
        let errors = h.events_of(&alice, id, RunEventKind::Error).await;
        assert_eq!(errors.len(), 1);
        assert_eq!(
            h.queue.claim(a_claim(BACKEND)).await.unwrap(),
            ClaimOutcome::Nothing
        );
    }
}

/// However often workers hand it over, the run goes on.
pub async fn hand_overs_never_exhaust_a_run(h: &Harness) {
    let (alice, mut claimed) = h.running().await;
    for may_live in [true, false].repeat(12) {
        assert_eq!(claimed.attempt, 1);
        let reason = ReleaseReason::HandOver { may_live };
        assert_eq!(h.released(&claimed, reason).await, RunStatus::Pending);
        claimed = h.claimed().await;
    }

    let run = h.run(&alice, claimed.run_id).await;

    assert_eq!(run.status, RunStatus::Running);
}

impl Harness {
    /// A run of nine tenths, given back and claimed again; and its owner.
    async fn interrupted(&self, reason: ReleaseReason) -> (Actor, ClaimedRun) {
        let (alice, claimed) = self.running().await;
        let report = RunReport {
            phase: Some(RunPhase::Executing),
            progress: Some(RunProgress {
                value: 0.9,
                nodes_done: 6,
                nodes_total: claimed.nodes_total,
                current_node: Some("9".to_owned()),
                ..RunProgress::default()
            }),
            ..RunReport::default()
        };
        self.report(&claimed, report).await;
        self.released(&claimed, reason).await;
        (alice, self.claimed().await)
    }
}

/// Progress never falls within an attempt, so a new attempt begins at nothing.
pub async fn a_new_attempt_begins_its_progress_anew(h: &Harness) {
    let (alice, next) = h.interrupted(ReleaseReason::BackendLost).await;

    let fresh = RunProgress {
        nodes_total: next.nodes_total,
        ..RunProgress::default()
    };
    assert_eq!(next.progress, fresh);
    assert_eq!(h.run(&alice, next.run_id).await.progress, fresh);
}

/// What is taken up again goes on from where it was.
pub async fn a_run_that_may_be_alive_keeps_its_progress(h: &Harness) {
    let (alice, next) = h.interrupted(ReleaseReason::WorkerLost).await;

    let kept = RunProgress {
        value: 0.9,
        nodes_done: 6,
        nodes_total: next.nodes_total,
        ..RunProgress::default()
    };
    assert_eq!(next.progress, kept);
    assert_eq!(h.run(&alice, next.run_id).await.progress, kept);
}

/// The owner's wish ends a run that is given back, unless a backend may have
/// it: then a worker must stop it there first.
pub async fn a_run_to_be_cancelled_ends_when_it_is_given_back_for_good(h: &Harness) {
    for reason in [
        ReleaseReason::HandOver { may_live: false },
        ReleaseReason::BackendLost,
        ReleaseReason::ExecutionLost,
        // Nobody ever submitted it.
        ReleaseReason::WorkerLost,
    ] {
        let (alice, claimed) = h.running().await;
        h.request_cancel(&alice, claimed.run_id).await;

        assert_eq!(h.released(&claimed, reason).await, RunStatus::Cancelled);

        let run = h.run(&alice, claimed.run_id).await;
        assert_over(&run, RunStatus::Cancelled);
        assert_eq!(run.error, None);
    }
    for reason in [
        ReleaseReason::HandOver { may_live: true },
        ReleaseReason::BackendAway,
        ReleaseReason::WorkerLost,
    ] {
        let (alice, claimed) = h.running().await;
        h.report(&claimed, prompt_id_report("prompt-1")).await;
        h.request_cancel(&alice, claimed.run_id).await;

        assert_eq!(h.released(&claimed, reason).await, RunStatus::Pending);

        let next = h.claimed().await;
        assert_eq!(next.run_id, claimed.run_id);
        let beat = h.queue.heartbeat(next.run_id, next.token, BRIEF * 100);
        assert!(beat.await.unwrap().cancel_requested);
        let ended = h.queue.cancelled(next.run_id, next.token, vec![]).await;
        assert!(ended.is_ok(), "{ended:?}");
    }
}
