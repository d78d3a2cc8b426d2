use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::{RunId, UserId};
use atelier_domain::ports::ReleaseReason;
use atelier_domain::run::RunStatus;
use tokio::task::JoinSet;

use super::{BACKEND, Harness};
use crate::build::{a_claim, an_actor};

/// `None` if nothing waits.
pub async fn a_claim_of_nothing_is_none(h: &Harness) {
    let claimed = h.queue.claim(a_claim(BACKEND)).await.unwrap();

    assert_eq!(claimed, None);
}

/// The claim brings everything that a worker needs.
pub async fn a_claim_hands_over_what_was_enqueued(h: &Harness) {
    let alice = an_actor();
    let new = h.new_run(&alice).await;
    h.runs.enqueue(&alice, new.clone()).await.unwrap();
    let request = a_claim(BACKEND);

    let claimed = h.claimed_by(request.clone()).await;

    assert_eq!(claimed.token, request.token);
    assert_eq!(claimed.run_id, new.id);
    assert_eq!(claimed.user_id, alice.user_id());
    assert_eq!(claimed.workflow_id, Some(new.workflow_id));
    assert_eq!(claimed.attempt, 1);
    assert_eq!(claimed.graph, new.graph);
    assert_eq!(claimed.nodes_total, new.nodes_total);
    assert_eq!(claimed.lora_ids, new.lora_ids);
    assert_eq!(claimed.comfyui_prompt_id, None);
    assert_eq!(claimed.earlier_backend, None);
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

    assert_eq!(h.queue.claim(a_claim(BACKEND)).await.unwrap(), None);
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
    while let Some(claimed) = h.queue.claim(a_claim(BACKEND)).await.unwrap() {
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

    let reason = ReleaseReason::HandOver;
    h.queue.release(first, claimed.token, reason).await.unwrap();

    assert_eq!(h.claimed().await.run_id, first);
    assert_eq!(h.claimed().await.run_id, second);
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
            while let Some(run) = queue.claim(a_claim(BACKEND)).await.unwrap() {
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
                let new = crate::build::a_new_run(new.workflow_id);
                ids.push((actor.clone(), runs.enqueue(&actor, new).await.unwrap().id));
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
                if let Some(run) = queue.claim(a_claim(BACKEND)).await.unwrap() {
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
