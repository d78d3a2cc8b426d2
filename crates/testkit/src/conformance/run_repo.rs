//! What every [`RunRepo`] must do, as far as it needs no worker; the rest
//! stands in [`run_queue`](super::run_queue).

mod terms;

use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::{RunId, WorkflowId};
use atelier_domain::ports::{Conflict, RepoError, RunRepo, WorkflowRepo, WriteOutcome};
use atelier_domain::run::{NewRun, Run, RunEvent, RunEventKind, RunFilter, RunStatus};
use atelier_domain::workflow::NewWorkflow;
use serde_json::json;

pub use self::terms::*;

use super::{AgeAnswers, KeepAlive, LIMITS, all_pages, page};
use crate::build::{a_new_run, a_workflow, an_actor, next_time, terms as widest};
use crate::random_id;

/// A store under test. It may be shared with other tests, as long as no worker
/// takes runs from it.
pub struct Harness {
    /// The runs under test.
    pub runs: Arc<dyn RunRepo>,
    /// Workflows in the same store.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// Makes the answers to a person's idempotent requests older than they are
    /// kept.
    pub age_answers: AgeAnswers,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

impl Harness {
    async fn workflow_of(&self, owner: &Actor) -> WorkflowId {
        let new = NewWorkflow {
            is_public: true,
            ..a_workflow()
        };
        self.workflows.create(owner, new).await.unwrap().id
    }

    async fn enqueued(&self, owner: &Actor, workflow: WorkflowId) -> Run {
        let new = a_new_run(workflow);
        crate::enqueue(&*self.runs, owner, new).await
    }

    async fn cancelled(&self, owner: &Actor, id: RunId) -> Run {
        let outcome = self.runs.request_cancel(owner, id, next_time()).await;
        match outcome.unwrap() {
            WriteOutcome::Done(run) => run,
            other => panic!("the owner's cancellation did not happen: {other:?}"),
        }
    }

    async fn events(&self, owner: &Actor, id: RunId) -> Vec<RunEvent> {
        let events = self.runs.events(owner, id, 0, 1_000).await;
        events.unwrap().unwrap()
    }

    async fn listed(&self, actor: &Actor, filter: RunFilter, limit: u16) -> Vec<RunId> {
        let runs = all_pages(limit, async |request| {
            self.runs.list(actor, filter, request).await.unwrap()
        })
        .await;
        runs.iter().map(|run| run.id).collect()
    }
}

/// `get` gives what `enqueue` was given: a pending run before its first
/// attempt.
pub async fn an_enqueued_run_is_read_back(h: &Harness) {
    let alice = an_actor();
    let mut new = a_new_run(h.workflow_of(&alice).await);
    new.input_params
        .insert("nested".to_owned(), json!({"a": [1, null, "ü"], "n": 0.5}));

    let run = crate::enqueue(&*h.runs, &alice, new.clone()).await;

    assert_eq!(run.id, new.id);
    assert_eq!(run.workflow_id, new.workflow_id);
    assert_eq!(run.user_id, alice.user_id());
    assert_eq!(run.status, RunStatus::Pending);
    assert_eq!(run.phase, None);
    assert_eq!(run.input_params, new.input_params);
    assert_eq!(run.progress.nodes_total, new.nodes_total);
    assert_eq!(run.progress.nodes_done, 0);
    assert_eq!(run.attempt, 0);
    assert_eq!(run.outputs, []);
    assert_eq!(run.error, None);
    assert_eq!(run.created_at, new.created_at);
    assert_eq!((run.started_at, run.completed_at), (None, None));
    let read = h.runs.get(&alice, new.id).await.unwrap().unwrap();
    assert_eq!(without_position(read), without_position(run));
}

/// The position moves as others come and go.
fn without_position(run: Run) -> Run {
    Run {
        queue_position: None,
        ..run
    }
}

/// The first event, status `pending`, is there as soon as the run is.
pub async fn enqueueing_writes_the_first_event(h: &Harness) {
    let alice = an_actor();
    let run = h.enqueued(&alice, h.workflow_of(&alice).await).await;

    let events = h.events(&alice, run.id).await;

    let [first] = events.as_slice() else {
        panic!("not one event: {events:?}");
    };
    assert_eq!(first.sequence, 1);
    assert_eq!(first.kind, RunEventKind::Status);
    assert_eq!(first.data, json!({"status": "pending", "attempt": 0}));
}

/// An id is given once; the first run stays as it was, with its one event.
pub async fn a_taken_run_id_is_a_conflict(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let workflow = h.workflow_of(&alice).await;
    let first = h.enqueued(&alice, workflow).await;
    for actor in [&alice, &bob] {
        let second = NewRun {
            id: first.id,
            ..a_new_run(workflow)
        };

        let outcome = h.runs.enqueue(actor, second, widest()).await;

        assert!(
            matches!(outcome, Err(RepoError::Conflict(Conflict::Id))),
            "{outcome:?}"
        );
    }
    let read = h.runs.get(&alice, first.id).await.unwrap().unwrap();
    assert_eq!(without_position(read), without_position(first.clone()));
    assert_eq!(h.events(&alice, first.id).await.len(), 1);
    assert_eq!(h.runs.get(&bob, first.id).await.unwrap(), None);
}

/// A run belongs to who asked for it, not to the workflow's owner.
pub async fn a_run_of_a_public_workflow_belongs_to_who_asked(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let workflow = h.workflow_of(&alice).await;

    let run = h.enqueued(&bob, workflow).await;

    assert_eq!(run.user_id, bob.user_id());
    assert!(h.runs.get(&bob, run.id).await.unwrap().is_some());
    assert_eq!(h.runs.get(&alice, run.id).await.unwrap(), None);
}

/// To others a run does not exist: not to get, list, follow or cancel.
pub async fn another_tenant_sees_and_changes_no_run(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let workflow = h.workflow_of(&alice).await;
    let run = h.enqueued(&alice, workflow).await;
    let of_workflow = RunFilter {
        workflow_id: Some(workflow),
        status: None,
    };

    let cancel = h.runs.request_cancel(&bob, run.id, next_time()).await;

    assert_eq!(cancel.unwrap(), WriteOutcome::NotFound);
    assert_eq!(h.runs.get(&bob, run.id).await.unwrap(), None);
    assert_eq!(h.runs.events(&bob, run.id, 0, 10).await.unwrap(), None);
    assert_eq!(h.listed(&bob, of_workflow, 50).await, []);
    assert_eq!(h.listed(&bob, RunFilter::default(), 50).await, []);
    let read = h.runs.get(&alice, run.id).await.unwrap().unwrap();
    assert_eq!(read.status, RunStatus::Pending);
    assert_eq!(h.events(&alice, run.id).await.len(), 1);
}

/// Whoever waits for the end of a run asks for no more.
pub async fn the_status_is_told_to_the_owner_alone(h: &Harness) {
    let (alice, bob) = (an_actor(), an_actor());
    let id = h.enqueued(&alice, h.workflow_of(&alice).await).await.id;

    assert_eq!(
        h.runs.status(&alice, id).await.unwrap(),
        Some(RunStatus::Pending)
    );
    assert_eq!(h.runs.status(&bob, id).await.unwrap(), None);

    let outcome = h.runs.request_cancel(&alice, id, next_time()).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    assert_eq!(
        h.runs.status(&alice, id).await.unwrap(),
        Some(RunStatus::Cancelled)
    );
}

/// Ids that nobody has are absent, not errors.
pub async fn an_absent_run_is_not_found(h: &Harness) {
    let alice = an_actor();
    let id = RunId::new(random_id());

    let cancel = h.runs.request_cancel(&alice, id, next_time()).await;

    assert_eq!(cancel.unwrap(), WriteOutcome::NotFound);
    assert_eq!(h.runs.get(&alice, id).await.unwrap(), None);
    assert_eq!(h.runs.events(&alice, id, 0, 10).await.unwrap(), None);
}

/// A pending run ends at once, with an event, at the caller's time.
pub async fn a_pending_run_is_cancelled_at_once(h: &Harness) {
    let alice = an_actor();
    let run = h.enqueued(&alice, h.workflow_of(&alice).await).await;
    let at = next_time();

    let outcome = h.runs.request_cancel(&alice, run.id, at).await.unwrap();

    let WriteOutcome::Done(cancelled) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(cancelled.status, RunStatus::Cancelled);
    assert_eq!(cancelled.completed_at, Some(at));
    assert_eq!(cancelled.started_at, None);
    let read = h.runs.get(&alice, run.id).await.unwrap();
    assert_eq!(read, Some(cancelled));
    let events = h.events(&alice, run.id).await;
    let last = events.last().unwrap();
    assert_eq!(events.len(), 2);
    assert_eq!(last.sequence, 2);
    assert_eq!(last.data, json!({"status": "cancelled", "attempt": 0}));
}

/// What is over is not cancelled again: `Stale`, and no event.
pub async fn a_run_that_is_over_is_stale_to_cancel(h: &Harness) {
    let alice = an_actor();
    let run = h.enqueued(&alice, h.workflow_of(&alice).await).await;
    let over = h.cancelled(&alice, run.id).await;

    let again = h.runs.request_cancel(&alice, run.id, next_time()).await;

    assert_eq!(again.unwrap(), WriteOutcome::Stale(over.clone()));
    assert_eq!(h.runs.get(&alice, run.id).await.unwrap(), Some(over));
    assert_eq!(h.events(&alice, run.id).await.len(), 2);
}

/// Eight cancellations at once: one ends the run, with one event.
pub async fn cancellations_at_once_end_the_run_once(h: &Harness) {
    let alice = an_actor();
    let run = h.enqueued(&alice, h.workflow_of(&alice).await).await;
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (runs, alice) = (Arc::clone(&h.runs), alice.clone());
        callers.spawn(async move {
            let outcome = runs.request_cancel(&alice, run.id, next_time()).await;
            matches!(outcome.unwrap(), WriteOutcome::Done(_))
        });
    }

    let done = callers.join_all().await;

    assert_eq!(done.iter().filter(|done| **done).count(), 1);
    assert_eq!(h.events(&alice, run.id).await.len(), 2);
}

/// Events come after a sequence, oldest first, at most `limit`.
pub async fn events_are_read_in_order_from_anywhere(h: &Harness) {
    let alice = an_actor();
    let run = h.enqueued(&alice, h.workflow_of(&alice).await).await;
    h.cancelled(&alice, run.id).await;
    let whole = h.events(&alice, run.id).await;
    let read = async |after: i64, limit: u16| {
        let events = h.runs.events(&alice, run.id, after, limit).await;
        let events = events.unwrap().unwrap();
        events
            .iter()
            .map(|event| event.sequence)
            .collect::<Vec<_>>()
    };

    assert_eq!(whole.len(), 2);
    assert_eq!(read(0, 10).await, [1, 2]);
    assert_eq!(read(0, 1).await, [1]);
    assert_eq!(read(1, 10).await, [2]);
    assert_eq!(read(2, 10).await, [] as [i64; 0]);
    assert_eq!(read(i64::MAX, 10).await, [] as [i64; 0]);
    assert_eq!(read(-5, 10).await, [1, 2]);
}

/// The pages of the runs are the runs, newest first, for every limit.
pub async fn pages_of_runs_join_to_the_whole_list(h: &Harness) {
    let alice = an_actor();
    let workflow = h.workflow_of(&alice).await;
    let moment = next_time();
    let mut expected = Vec::new();
    for count in 0..10 {
        let mut new = a_new_run(workflow);
        if count % 2 == 0 {
            new.created_at = moment;
        }
        let run = crate::enqueue(&*h.runs, &alice, new).await;
        expected.push(run);
    }
    expected.sort_by_key(|run| std::cmp::Reverse((run.created_at, run.id.as_uuid())));
    let expected: Vec<_> = expected.iter().map(|run| run.id).collect();
    for limit in [1, 2, 3, 9, 10, 11] {
        let listed = h.listed(&alice, RunFilter::default(), limit).await;
        assert_eq!(listed, expected, "limit {limit}");
    }
    let exact = h.runs.list(&alice, RunFilter::default(), page(10)).await;
    assert_eq!(exact.unwrap().next, None);
}

/// Status and workflow narrow the list, alone and together.
pub async fn run_filters_narrow_the_list(h: &Harness) {
    let alice = an_actor();
    let first = h.workflow_of(&alice).await;
    let second = h.workflow_of(&alice).await;
    let first_pending = h.enqueued(&alice, first).await.id;
    let first_over = h.enqueued(&alice, first).await.id;
    let second_over = h.enqueued(&alice, second).await.id;
    h.cancelled(&alice, first_over).await;
    h.cancelled(&alice, second_over).await;
    let over = Some(RunStatus::Cancelled);
    for (status, workflow_id, expected) in [
        (None, None, vec![second_over, first_over, first_pending]),
        (over, None, vec![second_over, first_over]),
        (None, Some(first), vec![first_over, first_pending]),
        (over, Some(first), vec![first_over]),
        (Some(RunStatus::Pending), Some(second), vec![]),
        (Some(RunStatus::Failed), None, vec![]),
    ] {
        let filter = RunFilter {
            status,
            workflow_id,
        };
        for limit in LIMITS {
            let listed = h.listed(&alice, filter, limit).await;
            assert_eq!(listed, expected, "{filter:?}, limit {limit}");
        }
    }
}

/// Tests a `RunRepo`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! run_repo_conformance {
    ($harness:expr) => {
        $crate::__cases! { run_repo in run_repo_conformance, $harness;
            an_enqueued_run_is_read_back,
            enqueueing_writes_the_first_event,
            a_taken_run_id_is_a_conflict,
            a_run_of_a_public_workflow_belongs_to_who_asked,
            another_tenant_sees_and_changes_no_run,
            the_status_is_told_to_the_owner_alone,
            an_absent_run_is_not_found,
            a_pending_run_is_cancelled_at_once,
            a_run_that_is_over_is_stale_to_cancel,
            cancellations_at_once_end_the_run_once,
            events_are_read_in_order_from_anywhere,
            pages_of_runs_join_to_the_whole_list,
            run_filters_narrow_the_list,
            a_waiting_run_knows_its_place,
            a_run_keeps_its_priority_timeout_and_what_it_repeats,
            a_blueprint_holds_what_a_run_needs,
            nobody_has_more_runs_waiting_than_allowed,
            the_cap_holds_for_many_requests_at_once,
            a_request_is_carried_out_once,
            another_body_under_the_same_key_is_different,
            keys_count_within_person_method_and_path,
            answers_are_forgotten_after_a_day,
            a_refused_request_leaves_no_answer,
            requests_at_once_are_carried_out_once,
        }
    };
}
