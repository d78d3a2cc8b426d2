use std::collections::BTreeSet;
use std::time::Duration;

use atelier_domain::ids::RunId;
use atelier_domain::ports::{ClaimOutcome, EnqueueTerms, ReleaseReason};
use atelier_domain::run::{NewRun, RunFailure, RunStatus};

use super::{BACKEND, Harness, assert_over, prompt_id_report};
use crate::build::{a_claim, a_request_under, an_actor, an_answer, terms};
use crate::{PATIENCE, random_id, wait_until};

const HOUR: Duration = Duration::from_hours(1);

/// Once a backend was away for too long, any other begins them anew.
pub async fn stranded_runs_are_freed_for_all(h: &Harness) {
    let running = [h.running().await, h.running().await, h.running().await];
    let mut expected = BTreeSet::new();
    for (_, claimed) in &running {
        h.report(claimed, prompt_id_report("prompt-1")).await;
        h.released(claimed, ReleaseReason::BackendAway).await;
        expected.insert(claimed.run_id);
    }
    let patient = h.queue.free_stranded(HOUR, 100).await.unwrap();
    assert_eq!(patient, []);
    let mut freed = Vec::new();

    wait_until("the end of the patience", PATIENCE, async || {
        let some = h.queue.free_stranded(Duration::ZERO, 2).await.unwrap();
        assert!(some.len() <= 2, "{some:?}");
        freed.extend(some);
        freed.len() >= 3
    })
    .await;

    assert_eq!(freed.into_iter().collect::<BTreeSet<_>>(), expected);
    let again = h.queue.free_stranded(Duration::ZERO, 100).await.unwrap();
    assert_eq!(again, []);
    for _ in 0..3 {
        let next = h.claimed_by(a_claim("backend-2")).await;
        assert!(expected.remove(&next.run_id));
        assert_eq!((next.resumes, next.attempt), (None, 2));
    }
    for (owner, claimed) in running {
        let history = h.history(&owner, claimed.run_id).await;
        assert_eq!(history, ["pending", "running", "pending", "running"]);
    }
}

/// There is nobody left who could stop it.
pub async fn a_stranded_run_to_be_cancelled_ends(h: &Harness) {
    let (alice, claimed) = h.running().await;
    h.report(&claimed, prompt_id_report("prompt-1")).await;
    h.request_cancel(&alice, claimed.run_id).await;
    h.released(&claimed, ReleaseReason::BackendAway).await;

    wait_until("the end of the patience", PATIENCE, async || {
        let freed = h.queue.free_stranded(Duration::ZERO, 10).await.unwrap();
        freed == [claimed.run_id]
    })
    .await;

    let run = h.run(&alice, claimed.run_id).await;
    assert_over(&run, RunStatus::Cancelled);
}

/// Their time goes on while they wait for another attempt.
pub async fn overdue_runs_that_wait_again_are_timed_out(h: &Harness) {
    let alice = an_actor();
    let mut claims = Vec::new();
    for _ in 0..3 {
        let new = NewRun {
            timeout_s: 1,
            ..h.new_run(&alice).await
        };
        let id = crate::enqueue(&*h.runs, &alice, new).await.id;
        let claimed = h.claimed().await;
        assert_eq!((claimed.run_id, claimed.timeout_s), (id, 1));
        claims.push(claimed);
    }
    let mut ids = BTreeSet::new();
    // A worker that has one ends it itself.
    for (claimed, reason) in claims.iter().zip([
        ReleaseReason::BackendAway,
        ReleaseReason::HandOver { may_live: false },
    ]) {
        h.released(claimed, reason).await;
        ids.insert(claimed.run_id);
    }
    let mut ended = Vec::new();

    wait_until("the end of their time", PATIENCE, async || {
        let some = h.queue.time_out_overdue(1).await.unwrap();
        assert!(some.len() <= 1, "{some:?}");
        ended.extend(some);
        ended.len() >= 2
    })
    .await;

    assert_eq!(ended.into_iter().collect::<BTreeSet<_>>(), ids);
    assert_eq!(h.queue.time_out_overdue(10).await.unwrap(), []);
    for id in ids {
        let run = h.run(&alice, id).await;
        assert_over(&run, RunStatus::Failed);
        assert_eq!(run.error, Some(RunFailure::timed_out(1)));
        let history = h.history(&alice, id).await;
        assert_eq!(history, ["pending", "running", "pending", "failed"]);
    }
}

/// Its time begins with its first attempt.
pub async fn a_run_that_never_began_has_all_the_time(h: &Harness) {
    let alice = an_actor();
    let brief = |new| NewRun {
        timeout_s: 1,
        ..new
    };
    let begun = brief(h.new_run(&alice).await);
    let begun = crate::enqueue(&*h.runs, &alice, begun).await.id;
    let waiting = brief(h.new_run(&alice).await);
    let waiting = crate::enqueue(&*h.runs, &alice, waiting).await.id;
    let claimed = h.claimed().await;
    assert_eq!(claimed.run_id, begun);
    h.released(&claimed, ReleaseReason::BackendLost).await;

    wait_until("the end of the other's time", PATIENCE, async || {
        h.queue.time_out_overdue(10).await.unwrap() == [begun]
    })
    .await;

    assert_eq!(h.run(&alice, waiting).await.status, RunStatus::Pending);
    assert_eq!(h.claimed().await.run_id, waiting);
}

/// What a backend has and should not have.
pub async fn strays_are_those_that_are_over_or_elsewhere(h: &Harness) {
    let (_, here) = h.running().await;
    let (alice, over) = h.running().await;
    h.queue
        .complete(over.run_id, over.token, vec![])
        .await
        .unwrap();
    let (_, returning) = h.running().await;
    h.released(&returning, ReleaseReason::WorkerLost).await;
    let cancelled = h.enqueued(&alice).await;
    h.request_cancel(&alice, cancelled).await;
    let found = vec![
        here.run_id,
        over.run_id,
        RunId::new(random_id()),
        returning.run_id,
        cancelled,
    ];
    let strays = async |backend| -> BTreeSet<RunId> {
        let strays = h.queue.strays(backend, found.clone()).await.unwrap();
        strays.into_iter().collect()
    };

    let ended = BTreeSet::from([over.run_id, cancelled]);
    assert_eq!(strays(BACKEND).await, ended);
    // Which may be the same ComfyUI under another name.
    assert_eq!(strays("backend-2").await, ended);
    assert_eq!(h.queue.strays(BACKEND, vec![]).await.unwrap(), []);
}

/// A backend that stayed away too long comes back with what went elsewhere.
pub async fn what_was_given_up_on_a_backend_is_a_stray_there(h: &Harness) {
    let (_, first) = h.running().await;
    h.released(&first, ReleaseReason::BackendAway).await;
    wait_until(
        "the backend to be away for too long",
        PATIENCE,
        async || h.queue.free_stranded(Duration::ZERO, 10).await.unwrap() == [first.run_id],
    )
    .await;
    h.claimed_by(a_claim("backend-2")).await;

    let strays = async |backend| h.queue.strays(backend, vec![first.run_id]).await.unwrap();
    assert_eq!(strays(BACKEND).await, [first.run_id]);
    assert_eq!(strays("backend-2").await, []);
}

/// A run that any backend may begin, and one of them turns out to have.
pub async fn a_run_found_alive_waits_for_that_backend_alone(h: &Harness) {
    let owner = an_actor();
    let free = h.enqueued(&owner).await;

    assert_eq!(h.queue.strays(BACKEND, vec![free]).await.unwrap(), []);

    assert_eq!(
        h.queue.claim(a_claim("backend-2")).await.unwrap(),
        ClaimOutcome::Nothing
    );
    let claimed = h.claimed().await;
    assert_eq!(
        (claimed.run_id, claimed.resumes),
        (free, Some(free.to_string()))
    );
}

/// At most so many at once, and none that is still kept.
pub async fn old_answers_are_forgotten(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    for (actor, key) in [(&alice, "1"), (&alice, "2"), (&alice, "3"), (&bob, "1")] {
        let terms = EnqueueTerms {
            idempotency: Some((a_request_under(key, ""), an_answer("{}"))),
            ..terms()
        };
        let new = h.new_run(actor).await;
        h.runs.enqueue(actor, new, terms).await.unwrap();
    }
    assert_eq!(h.queue.forget_answers(100).await.unwrap(), 0);
    (h.age_answers)(alice.user_id()).await;

    assert_eq!(h.queue.forget_answers(2).await.unwrap(), 2);
    assert_eq!(h.queue.forget_answers(100).await.unwrap(), 1);
    assert_eq!(h.queue.forget_answers(100).await.unwrap(), 0);
    let request = a_request_under("1", "");
    let kept = h.runs.earlier_request(&bob, &request).await.unwrap();
    assert!(kept.is_some());
}

/// Where runs ended one after the other while more were there, the next ones
/// are expected at that pace, and without any, not at all.
pub async fn the_pace_of_recent_runs_gives_an_estimate(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    for _ in 0..7 {
        h.enqueued(&alice).await;
    }
    let waiting = h.enqueued(&bob).await;
    let before = h.run(&bob, waiting).await;
    assert!(before.queue_position.is_some());
    assert_eq!(before.estimated_start_at, None);
    let mut claims = Vec::new();
    while let Some(claimed) = crate::claim(&*h.queue, a_claim(BACKEND)).await {
        claims.push(claimed);
    }
    for claimed in claims {
        let (id, token) = (claimed.run_id, claimed.token);
        h.queue.complete(id, token, vec![]).await.unwrap();
    }
    let first = h.enqueued(&bob).await;
    let second = h.enqueued(&bob).await;

    let (first, second) = (h.run(&bob, first).await, h.run(&bob, second).await);

    assert_eq!(
        (first.queue_position, second.queue_position),
        (Some(0), Some(1))
    );
    let ended = h.run(&bob, waiting).await.completed_at;
    assert!(first.estimated_start_at > ended, "{first:?}");
    assert!(
        second.estimated_start_at > first.estimated_start_at,
        "{second:?}"
    );
}
