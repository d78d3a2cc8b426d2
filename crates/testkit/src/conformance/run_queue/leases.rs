use std::collections::BTreeSet;
use std::time::Duration;

use atelier_domain::ids::RunId;
use atelier_domain::ports::ClaimOutcome;
use atelier_domain::run::{RunFailure, RunLoss, RunStatus};

use super::{
    BACKEND, Harness, a_brief_claim, a_short_claim, an_expired_claim, assert_over, prompt_id_report,
};
use crate::build::{a_claim, an_actor};
use crate::{PATIENCE, wait_until};

const HOUR: Duration = Duration::from_hours(1);

/// While the lease lasts, nobody takes the run.
pub async fn an_unexpired_claim_is_not_recovered(h: &Harness) {
    let (alice, claimed) = h.running().await;

    let recovered = h.queue.recover_expired(100).await.unwrap();

    assert_eq!(recovered, []);
    let run = h.run(&alice, claimed.run_id).await;
    assert_eq!(run.status, RunStatus::Running);
}

/// An expired run waits again, told once, even if two recover at once.
pub async fn an_expired_claim_is_recovered_once(h: &Harness) {
    let alice = an_actor();
    let id = h.enqueued(&alice).await;
    h.claimed_by(a_short_claim()).await;
    let mut told: Vec<RunId> = Vec::new();
    wait_until("the lease ran out", PATIENCE, async || {
        let recover = || h.queue.recover_expired(100);
        let (first, second) = tokio::join!(recover(), recover());
        told.extend(first.unwrap());
        told.extend(second.unwrap());
        !told.is_empty()
    })
    .await;

    assert_eq!(told, [id]);
    assert_eq!(h.queue.recover_expired(100).await.unwrap(), []);
    let run = h.run(&alice, id).await;
    assert_eq!((run.status, run.attempt), (RunStatus::Pending, 1));
    assert_eq!(run.phase, None);
    assert_eq!(
        h.history(&alice, id).await,
        ["pending", "running", "pending"]
    );
    assert_eq!(h.claimed().await.run_id, id);
}

/// One call recovers at most `limit` runs; the next ones follow.
pub async fn recovery_takes_at_most_its_limit(h: &Harness) {
    let alice = an_actor();
    let mut expected = BTreeSet::new();
    for _ in 0..5 {
        expected.insert(h.enqueued(&alice).await);
        h.claimed_by(a_short_claim()).await;
    }
    let mut told = Vec::new();

    wait_until("all five leases ran out", PATIENCE, async || {
        let recovered = h.queue.recover_expired(2).await.unwrap();
        assert!(recovered.len() <= 2, "{recovered:?}");
        told.extend(recovered);
        told.len() >= 5
    })
    .await;

    assert_eq!(told.len(), 5);
    assert_eq!(told.into_iter().collect::<BTreeSet<_>>(), expected);
}

/// A heartbeat makes a brief claim long: another brief one, begun later,
/// expires and it does not.
pub async fn a_heartbeat_keeps_the_claim(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let kept = h.enqueued(&alice).await;
    let claim = h.claimed_by(a_brief_claim()).await;
    h.queue.heartbeat(kept, claim.token, HOUR).await.unwrap();
    let expiring = h.enqueued(&bob).await;
    h.claimed_by(a_brief_claim()).await;

    h.recovered(expiring).await;

    assert_eq!(h.run(&alice, kept).await.status, RunStatus::Running);
    let beat = h.queue.heartbeat(kept, claim.token, HOUR).await;
    assert!(beat.is_ok(), "{beat:?}");
}

/// Nothing runs anywhere for it, so it can end.
pub async fn a_run_to_be_cancelled_that_no_backend_knows_ends_at_recovery(h: &Harness) {
    let alice = an_actor();
    let id = h.enqueued(&alice).await;
    h.claimed_by(a_brief_claim()).await;
    h.request_cancel(&alice, id).await;

    h.recovered(id).await;

    assert_over(&h.run(&alice, id).await, RunStatus::Cancelled);
    assert_eq!(
        h.queue.claim(a_claim(BACKEND)).await.unwrap(),
        ClaimOutcome::Nothing
    );
    assert_eq!(
        h.history(&alice, id).await,
        ["pending", "running", "cancelled"]
    );
}

/// A worker has to stop it on its backend first: the next one learns that the
/// owner wants it cancelled.
pub async fn a_run_to_be_cancelled_that_a_backend_knows_waits_for_a_worker(h: &Harness) {
    let alice = an_actor();
    let id = h.enqueued(&alice).await;
    let first = h.claimed_by(a_brief_claim()).await;
    h.report(&first, prompt_id_report("prompt-1")).await;
    h.request_cancel(&alice, id).await;

    h.recovered(id).await;

    assert_eq!(h.run(&alice, id).await.status, RunStatus::Pending);
    let second = h.claimed().await;
    assert_eq!(second.run_id, id);
    assert_eq!(second.resumes.as_deref(), Some("prompt-1"));
    let beat = h.queue.heartbeat(id, second.token, HOUR).await.unwrap();
    assert!(beat.cancel_requested);
}

/// Workers that die with it do not run it for ever.
pub async fn recovering_the_last_attempt_fails_the_run(h: &Harness) {
    let alice = an_actor();
    let id = h.enqueued(&alice).await;
    let budget = RunLoss::Worker.budget();
    for attempt in 1..=budget {
        let claimed = h.claimed_by(an_expired_claim()).await;
        assert_eq!((claimed.run_id, claimed.attempt), (id, attempt));
        h.recovered(id).await;
    }

    let run = h.run(&alice, id).await;
    assert_over(&run, RunStatus::Failed);
    let expected = RunFailure::exhausted(RunLoss::Worker, budget);
    assert_eq!(run.error, Some(expected));
    assert_eq!(
        h.queue.claim(a_claim(BACKEND)).await.unwrap(),
        ClaimOutcome::Nothing
    );
}
