//! What every [`RunSignals`] must do.
//!
//! Signals are hints, so no case says that none comes: each says that one
//! comes in bounded time after a change.

use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::RunId;
use atelier_domain::ports::{
    ReleaseReason, RunQueue, RunRepo, RunReport, RunSignals, RunTopic, SignalStream, WorkflowRepo,
};
use atelier_domain::run::RunPhase;
use futures_util::StreamExt as _;

use super::KeepAlive;
use crate::PATIENCE;
use crate::build::{a_claim, a_new_run, a_workflow, an_actor, next_time};

/// A store under test. It must be this harness's alone: a claim takes whatever
/// waits.
pub struct Harness {
    /// The signals under test.
    pub signals: Arc<dyn RunSignals>,
    /// The runs that they are about, for their owners.
    pub runs: Arc<dyn RunRepo>,
    /// The same, for workers.
    pub queue: Arc<dyn RunQueue>,
    /// Workflows in the same store.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

impl Harness {
    async fn enqueued(&self, owner: &Actor) -> RunId {
        let workflow = self.workflows.create(owner, a_workflow()).await.unwrap();
        let new = a_new_run(workflow.id);
        crate::enqueue(&*self.runs, owner, new).await.id
    }
}

async fn woken(what: &str, stream: &mut SignalStream) {
    let item = tokio::time::timeout(PATIENCE, stream.next()).await;
    assert!(item == Ok(Some(())), "{what} wakes nobody: {item:?}");
}

/// Takes what has come already, so that the next item is of a later change.
async fn settled(stream: &mut SignalStream) {
    let quiet = std::time::Duration::from_millis(200);
    while let Ok(item) = tokio::time::timeout(quiet, stream.next()).await {
        assert_eq!(item, Some(()), "the stream ended");
    }
}

/// Workers hear of a new run.
pub async fn enqueueing_wakes_the_workers(h: &Harness) {
    let mut stream = h.signals.watch(RunTopic::Queue);

    h.enqueued(&an_actor()).await;

    woken("enqueueing", &mut stream).await;
}

/// And of the next one, and one that comes back.
pub async fn every_later_run_wakes_the_workers_again(h: &Harness) {
    let mut stream = h.signals.watch(RunTopic::Queue);
    for _ in 0..3 {
        settled(&mut stream).await;
        h.enqueued(&an_actor()).await;
        woken("enqueueing again", &mut stream).await;
    }
    let claimed = crate::claim(&*h.queue, a_claim("backend")).await.unwrap();
    settled(&mut stream).await;

    let reason = ReleaseReason::HandOver { may_live: false };
    let released = h.queue.release(claimed.run_id, claimed.token, reason).await;

    assert!(released.is_ok(), "{released:?}");
    woken("releasing", &mut stream).await;
}

/// Who watches a run hears of its claim, its reports and its end.
pub async fn every_step_of_a_run_wakes_its_watchers(h: &Harness) {
    let id = h.enqueued(&an_actor()).await;
    let mut stream = h.signals.watch(RunTopic::Run(id));

    let claimed = crate::claim(&*h.queue, a_claim("backend")).await.unwrap();
    woken("claiming", &mut stream).await;

    settled(&mut stream).await;
    let report = RunReport {
        phase: Some(RunPhase::Executing),
        ..RunReport::default()
    };
    h.queue.report(id, claimed.token, report).await.unwrap();
    woken("reporting", &mut stream).await;

    settled(&mut stream).await;
    h.queue.complete(id, claimed.token, vec![]).await.unwrap();
    woken("completing", &mut stream).await;
}

/// Who waits for a run's end hears of it, whichever end it is.
pub async fn the_end_of_a_run_wakes_who_waits_for_it(h: &Harness) {
    let alice = an_actor();
    let completed = h.enqueued(&alice).await;
    let mut stream = h.signals.watch(RunTopic::End(completed));
    let claimed = crate::claim(&*h.queue, a_claim("backend")).await.unwrap();
    h.queue
        .complete(completed, claimed.token, vec![])
        .await
        .unwrap();
    woken("completing", &mut stream).await;

    let cancelled = h.enqueued(&alice).await;
    let mut stream = h.signals.watch(RunTopic::End(cancelled));
    let outcome = h.runs.request_cancel(&alice, cancelled, next_time()).await;
    assert!(outcome.is_ok(), "{outcome:?}");
    woken("a cancellation", &mut stream).await;
}

/// Who watches a run hears of its owner's cancellation, running or not.
pub async fn a_cancellation_wakes_the_watchers(h: &Harness) {
    let alice = an_actor();
    let running = h.enqueued(&alice).await;
    crate::claim(&*h.queue, a_claim("backend")).await.unwrap();
    let pending = h.enqueued(&alice).await;
    for id in [running, pending] {
        let mut stream = h.signals.watch(RunTopic::Run(id));
        settled(&mut stream).await;

        let outcome = h.runs.request_cancel(&alice, id, next_time()).await;

        assert!(outcome.is_ok(), "{outcome:?}");
        woken("a cancellation", &mut stream).await;
    }
}

/// Everybody who watches is woken, and one who left disturbs nobody.
pub async fn all_watchers_are_woken(h: &Harness) {
    let mut streams: Vec<_> = (0..5).map(|_| h.signals.watch(RunTopic::Queue)).collect();
    drop(h.signals.watch(RunTopic::Queue));

    h.enqueued(&an_actor()).await;

    for stream in &mut streams {
        woken("enqueueing", stream).await;
    }
}

/// Watching begins with the call: what happens before the first poll is not
/// missed.
pub async fn a_change_before_the_first_poll_is_not_missed(h: &Harness) {
    let id = h.enqueued(&an_actor()).await;
    let mut stream = h.signals.watch(RunTopic::Run(id));
    let claimed = crate::claim(&*h.queue, a_claim("backend")).await.unwrap();
    let outcome = h.queue.complete(id, claimed.token, vec![]).await;
    assert!(outcome.is_ok(), "{outcome:?}");

    woken("what happened before", &mut stream).await;
}

/// Tests a `RunSignals`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! run_signals_conformance {
    ($harness:expr) => {
        $crate::__cases! { run_signals in run_signals_conformance, $harness;
            enqueueing_wakes_the_workers,
            every_later_run_wakes_the_workers_again,
            every_step_of_a_run_wakes_its_watchers,
            the_end_of_a_run_wakes_who_waits_for_it,
            a_cancellation_wakes_the_watchers,
            all_watchers_are_woken,
            a_change_before_the_first_poll_is_not_missed,
        }
    };
}
