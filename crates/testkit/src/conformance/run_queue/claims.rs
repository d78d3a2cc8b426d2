use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::{InputId, LoraId, RunId, UserId};
use atelier_domain::ports::{ClaimOutcome, ClaimRequest, ReleaseReason};
use atelier_domain::run::{NewRun, RunPriority, RunStatus};
use tokio::task::JoinSet;

use super::{BACKEND, Harness};
use crate::build::{a_claim, an_actor, next_time};
use crate::random_id;

/// `None` if nothing waits.
pub async fn a_claim_of_nothing_is_none(h: &Harness) {
    let claimed = h.queue.claim(a_claim(BACKEND)).await.unwrap();

    assert_eq!(claimed, ClaimOutcome::Nothing);
}

/// The claim brings everything that a worker needs.
pub async fn a_claim_hands_over_what_was_enqueued(h: &Harness) {
    let alice = an_actor();
    let new = NewRun {
        lora_ids: vec![LoraId::new(random_id())],
        input_ids: vec![InputId::new(random_id()), InputId::new(random_id())],
        trace_parent: Some(format!("00-{}-00f067aa0ba902b7-01", random_id().simple())),
        ..h.new_run(&alice).await
    };
    crate::enqueue(&*h.runs, &alice, new.clone()).await;
    let request = a_claim(BACKEND);

    let claimed = h.claimed_by(request.clone()).await;

    assert_eq!(claimed.token, request.token);
    assert_eq!(claimed.run_id, new.id);
    assert_eq!(claimed.user_id, alice.user_id());
    assert_eq!(claimed.workflow_id, new.workflow_id);
    assert_eq!(claimed.attempt, 1);
    assert_eq!(claimed.graph, new.graph);
    assert_eq!(claimed.nodes_total, new.nodes_total);
    assert_eq!(claimed.lora_ids, new.lora_ids);
    assert_eq!(claimed.input_ids, new.input_ids);
    assert_eq!(claimed.trace_parent, new.trace_parent);
    assert_eq!(claimed.resumes, None);
    assert_eq!(claimed.timeout_s, new.timeout_s);
    let whole = Duration::from_secs(new.timeout_s.into());
    assert!(
        claimed.remaining <= whole && claimed.remaining > whole / 2,
        "{claimed:?}"
    );
}

/// Its owner sees the run running, with its backend, and an event of it.
pub async fn a_claimed_run_is_running(h: &Harness) {
    let (alice, claimed) = h.running().await;

    let run = h.run(&alice, claimed.run_id).await;

    assert_eq!(run.status, RunStatus::Running);
    assert_eq!(run.attempt, 1);
    assert_eq!(run.backend.as_deref(), Some(BACKEND));
    assert!(run.started_at.is_some());
    assert_eq!(run.completed_at, None);
    assert_eq!(run.queue_position, None);
    assert_eq!(h.history(&alice, run.id).await, ["pending", "running"]);
}

/// Only what is pending is claimed.
pub async fn what_is_over_or_running_is_not_claimed(h: &Harness) {
    let alice = an_actor();
    let cancelled = h.enqueued(&alice).await;
    h.request_cancel(&alice, cancelled).await;
    let running = h.enqueued(&alice).await;
    assert_eq!(h.claimed().await.run_id, running);

    assert_eq!(
        h.queue.claim(a_claim(BACKEND)).await.unwrap(),
        ClaimOutcome::Nothing
    );
}

/// Of one user, the oldest run.
pub async fn a_users_runs_are_claimed_oldest_first(h: &Harness) {
    let alice = an_actor();
    let mut expected = Vec::new();
    for _ in 0..5 {
        expected.push(h.enqueued(&alice).await);
    }

    let mut order = Vec::new();
    for _ in 0..5 {
        order.push(h.claimed().await.run_id);
    }

    assert_eq!(order, expected);
}

/// A user who enqueued much before others does not keep them waiting.
pub async fn claims_go_round_between_users(h: &Harness) {
    let actors = [an_actor(), an_actor(), an_actor()];
    for (actor, runs) in actors.iter().zip([6, 2, 2]) {
        for _ in 0..runs {
            h.enqueued(actor).await;
        }
    }

    let order = claim_all(h).await;

    let [alice, bob, carol] = actors.map(|actor| actor.user_id());
    let rounds: Vec<BTreeSet<UserId>> = order
        .chunks(3)
        .take(2)
        .map(|round| round.iter().copied().collect())
        .collect();
    let everybody = BTreeSet::from([alice, bob, carol]);
    assert_eq!(rounds, [everybody.clone(), everybody], "{order:?}");
    assert_eq!(order.get(6..), Some([alice; 4].as_slice()));
}

async fn claim_all(h: &Harness) -> Vec<UserId> {
    let mut order = Vec::new();
    while let Some(claimed) = crate::claim(&*h.queue, a_claim(BACKEND)).await {
        order.push(claimed.user_id);
    }
    order
}

/// What counts is when a user was served, not when the run came.
pub async fn the_user_served_longest_ago_comes_first(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    for actor in [&alice, &bob] {
        h.enqueued(actor).await;
        assert_eq!(h.claimed().await.user_id, actor.user_id());
    }
    h.enqueued(&bob).await;
    h.enqueued(&alice).await;

    let order = claim_all(h).await;

    assert_eq!(order, [alice.user_id(), bob.user_id()]);
}

/// A run that comes back is still the oldest of its user.
pub async fn a_released_run_waits_with_its_old_place(h: &Harness) {
    let alice = an_actor();
    let first = h.enqueued(&alice).await;
    let second = h.enqueued(&alice).await;
    let claimed = h.claimed().await;
    assert_eq!(claimed.run_id, first);

    let reason = ReleaseReason::HandOver { may_live: false };
    h.queue.release(first, claimed.token, reason).await.unwrap();

    assert_eq!(h.claimed().await.run_id, first);
    assert_eq!(h.claimed().await.run_id, second);
}

impl Harness {
    async fn enqueued_at(&self, owner: &Actor, priority: i64) -> RunId {
        let new = NewRun {
            priority: RunPriority::new(priority).unwrap(),
            ..self.new_run(owner).await
        };
        crate::enqueue(&*self.runs, owner, new).await.id
    }
}

/// Of one person's runs the highest first, and of those the oldest.
pub async fn higher_priorities_of_one_person_come_first(h: &Harness) {
    let alice = an_actor();
    let mut ids = Vec::new();
    for priority in [0, -10, 10, 0, 3, 10] {
        ids.push((priority, h.enqueued_at(&alice, priority).await));
    }
    let (_, last) = ids.last().unwrap();
    let run = h.run(&alice, *last).await;
    assert_eq!(run.priority, RunPriority::HIGHEST);

    let mut order = Vec::new();
    while let Some(claimed) = crate::claim(&*h.queue, a_claim(BACKEND)).await {
        order.push(claimed.run_id);
    }

    // A stable sort: those of one priority keep their order.
    ids.sort_by_key(|(priority, _)| std::cmp::Reverse(*priority));
    let expected: Vec<RunId> = ids.into_iter().map(|(_, id)| id).collect();
    assert_eq!(order, expected);
}

/// However important somebody's runs are, everybody has a turn.
pub async fn priorities_do_not_count_between_people(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    for _ in 0..3 {
        h.enqueued_at(&alice, 10).await;
    }
    h.enqueued_at(&bob, -10).await;

    let order = claim_all(h).await;

    let place = order.iter().position(|user| *user == bob.user_id());
    assert!(place.is_some_and(|place| place < 2), "{order:?}");
}

/// What may be alive is taken up again before anything else, and by its own
/// backend alone.
pub async fn runs_that_may_be_alive_come_first_however_full_the_backend_is(h: &Harness) {
    let (_, returning) = h.running().await;
    let (_, busy) = h.running().await;
    h.released(&returning, ReleaseReason::BackendAway).await;
    let other = h.enqueued(&an_actor()).await;
    let full = || ClaimRequest {
        max_in_flight: 1,
        ..a_claim(BACKEND)
    };

    assert_eq!(h.claimed_by(a_claim("backend-2")).await.run_id, other);
    let next = h.claimed_by(full()).await;

    assert_eq!(next.run_id, returning.run_id);
    assert_eq!(h.queue.claim(full()).await.unwrap(), ClaimOutcome::Nothing);
    let ended = h.queue.complete(busy.run_id, busy.token, vec![]).await;
    assert!(ended.is_ok(), "{ended:?}");
}

/// Eight claimers at once for a backend that may have three.
pub async fn a_backend_takes_no_more_than_it_may_have(h: &Harness) {
    let alice = an_actor();
    for _ in 0..8 {
        h.enqueued(&alice).await;
    }
    let request = || ClaimRequest {
        max_in_flight: 3,
        ..a_claim(BACKEND)
    };
    let mut claimers = JoinSet::new();
    for _ in 0..8 {
        let queue = Arc::clone(&h.queue);
        claimers.spawn(async move { crate::claim(&*queue, request()).await });
    }

    let claimed: Vec<_> = claimers.join_all().await.into_iter().flatten().collect();

    assert_eq!(claimed.len(), 3);
    h.released(
        claimed.first().unwrap(),
        ReleaseReason::HandOver { may_live: false },
    )
    .await;
    assert!(crate::claim(&*h.queue, request()).await.is_some());
    assert_eq!(
        h.queue.claim(request()).await.unwrap(),
        ClaimOutcome::Nothing
    );
    assert!(
        crate::claim(&*h.queue, a_claim("backend-2"))
            .await
            .is_some()
    );
}

/// Eight claimers at once over forty runs of five users: each run once.
pub async fn no_run_is_claimed_twice_at_once(h: &Harness) {
    let mut expected = BTreeSet::new();
    for _ in 0..5 {
        let actor = an_actor();
        for _ in 0..8 {
            expected.insert(h.enqueued(&actor).await);
        }
    }
    let mut claimers = JoinSet::new();
    for _ in 0..8 {
        let queue = Arc::clone(&h.queue);
        claimers.spawn(async move {
            let mut claimed = Vec::new();
            while let Some(run) = crate::claim(&*queue, a_claim(BACKEND)).await {
                claimed.push(run.run_id);
            }
            claimed
        });
    }

    let claimed: Vec<RunId> = claimers.join_all().await.concat();

    assert_eq!(
        claimed.len(),
        expected.len(),
        "one twice, or one left behind"
    );
    assert_eq!(claimed.into_iter().collect::<BTreeSet<_>>(), expected);
}

/// Four who enqueue and four who claim, at once: no run is lost or claimed
/// twice, and every run's events have no gap.
pub async fn runs_enqueued_while_others_claim_are_all_claimed(h: &Harness) {
    const EACH: usize = 6;
    let actors: Vec<Actor> = (0..4).map(|_| an_actor()).collect();
    let mut enqueuers = JoinSet::new();
    for actor in &actors {
        let new = h.new_run(actor).await;
        let (runs, actor) = (Arc::clone(&h.runs), actor.clone());
        enqueuers.spawn(async move {
            let mut ids = Vec::new();
            for _ in 0..EACH {
                let new = NewRun {
                    id: RunId::new(random_id()),
                    created_at: next_time(),
                    ..new.clone()
                };
                ids.push((actor.clone(), crate::enqueue(&*runs, &actor, new).await.id));
            }
            ids
        });
    }
    let claimed = Arc::new(std::sync::Mutex::new(Vec::new()));
    let mut claimers = JoinSet::new();
    for _ in 0..4 {
        let (queue, claimed) = (Arc::clone(&h.queue), Arc::clone(&claimed));
        claimers.spawn(async move {
            let mut pulse = tokio::time::interval(Duration::from_millis(2));
            while claimed.lock().unwrap().len() < 4 * EACH {
                pulse.tick().await;
                if let Some(run) = crate::claim(&*queue, a_claim(BACKEND)).await {
                    claimed.lock().unwrap().push(run.run_id);
                }
            }
        });
    }

    let enqueued = enqueuers.join_all().await.concat();
    let all = tokio::time::timeout(crate::PATIENCE, claimers.join_all()).await;
    assert!(all.is_ok(), "some run is never claimed");

    let mut claimed = claimed.lock().unwrap().clone();
    claimed.sort_unstable();
    let mut ids: Vec<RunId> = enqueued.iter().map(|(_, id)| *id).collect();
    ids.sort_unstable();
    assert_eq!(claimed, ids);
    for (actor, id) in enqueued {
        assert_eq!(h.history(&actor, id).await, ["pending", "running"]);
    }
}
