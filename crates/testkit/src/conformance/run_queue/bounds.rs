use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ids::UserId;
use atelier_domain::ports::{ClaimOutcome, ClaimRequest, ClaimedRun, QueueFigures, ReleaseReason};
use tokio::task::JoinSet;

use super::{BACKEND, Harness};
use crate::build::{a_claim, an_actor};

fn at_most(max_running: u32, backend: &str) -> ClaimRequest {
    ClaimRequest {
        max_running: Some(max_running),
        ..a_claim(backend)
    }
}

impl Harness {
    async fn ended(&self, claimed: &ClaimedRun) {
        let ended = self
            .queue
            .complete(claimed.run_id, claimed.token, Vec::new())
            .await;
        ended.unwrap();
    }
}

/// They wait for one of theirs to end, and keep nobody else waiting.
pub async fn nobody_has_more_runs_under_way_than_allowed(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    for actor in [&alice, &alice, &alice, &bob] {
        h.enqueued(actor).await;
    }
    let mut claimed = Vec::new();
    for _ in 0..2 {
        claimed.push(h.claimed_by(at_most(1, BACKEND)).await);
    }
    let people: Vec<UserId> = claimed.iter().map(|run| run.user_id).collect();
    assert_eq!(people, [alice.user_id(), bob.user_id()]);

    for backend in [BACKEND, "backend-2"] {
        let next = h.queue.claim(at_most(1, backend)).await.unwrap();
        assert_eq!(next, ClaimOutcome::Nothing);
    }

    h.ended(&claimed.remove(0)).await;
    let next = h.claimed_by(at_most(1, BACKEND)).await;
    assert_eq!(next.user_id, alice.user_id());
    let next = h.claimed_by(at_most(2, BACKEND)).await;
    assert_eq!(next.user_id, alice.user_id(), "another bound lets it pass");
}

/// Whoever was passed over comes first as soon as one of theirs ends.
pub async fn who_is_passed_over_keeps_their_turn(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    for actor in [&alice, &alice, &bob, &bob, &bob] {
        h.enqueued(actor).await;
    }
    let first = h.claimed_by(at_most(1, BACKEND)).await;
    assert_eq!(first.user_id, alice.user_id());
    for _ in 0..2 {
        let next = h.claimed_by(at_most(1, BACKEND)).await;
        assert_eq!(next.user_id, bob.user_id());
        h.ended(&next).await;
    }

    h.ended(&first).await;

    let next = h.claimed_by(at_most(1, BACKEND)).await;
    assert_eq!(next.user_id, alice.user_id());
}

/// Sixteen claimers for as many backends at once, and more runs than anybody
/// may have under way.
pub async fn claims_at_once_do_not_pass_the_bound_together(h: &Harness) {
    const MOST: u32 = 2;
    let people = [an_actor(), an_actor(), an_actor()];
    for person in &people {
        for _ in 0..10 {
            h.enqueued(person).await;
        }
    }
    let mut claimers = JoinSet::new();
    for number in 0..16 {
        let queue = Arc::clone(&h.queue);
        claimers.spawn(async move {
            let backend = format!("backend-{number}");
            crate::claim(&*queue, at_most(MOST, &backend)).await
        });
    }

    let claimed: Vec<_> = claimers.join_all().await.into_iter().flatten().collect();

    let mut under_way: BTreeMap<UserId, u32> = BTreeMap::new();
    for run in claimed {
        *under_way.entry(run.user_id).or_default() += 1;
    }
    let expected: BTreeMap<UserId, u32> = people
        .iter()
        .map(|person| (person.user_id(), MOST))
        .collect();
    assert_eq!(under_way, expected);
}

/// It is under way, whatever the bound says.
pub async fn what_may_be_alive_is_taken_up_again_beyond_the_bound(h: &Harness) {
    let alice = an_actor();
    for _ in 0..2 {
        h.enqueued(&alice).await;
    }
    let first = h.claimed_by(at_most(1, BACKEND)).await;
    h.released(&first, ReleaseReason::BackendAway).await;
    let second = h.claimed_by(at_most(1, "backend-2")).await;
    assert_ne!(second.run_id, first.run_id);

    let again = h.claimed_by(at_most(1, BACKEND)).await;

    assert_eq!(again.run_id, first.run_id);
}

/// How many wait and run, and since when.
pub async fn figures_tell_how_the_queue_is(h: &Harness) {
    let figures = h.queue.figures().await.unwrap();
    assert_eq!(figures, QueueFigures::default());
    let alice = an_actor();
    for _ in 0..3 {
        h.enqueued(&alice).await;
    }
    let claimed = h.claimed().await;
    let first = h.queue.figures().await.unwrap();
    assert_eq!((first.waiting, first.running), (2, 1));

    crate::wait_until("waiting becomes longer", crate::PATIENCE, async || {
        h.queue.figures().await.unwrap().oldest > first.oldest
    })
    .await;

    assert!(first.oldest < Duration::from_mins(1), "{first:?}");
    h.ended(&claimed).await;
    for _ in 0..2 {
        h.claimed().await;
    }
    let last = h.queue.figures().await.unwrap();
    let expected = QueueFigures {
        waiting: 0,
        oldest: Duration::ZERO,
        running: 2,
    };
    assert_eq!(last, expected);
}
