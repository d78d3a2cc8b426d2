use atelier_domain::actor::Actor;
use atelier_domain::ports::{
    ClaimOutcome, ClaimRequest, ClaimedRun, EnqueueOutcome, RunQueue, RunRepo,
};
use atelier_domain::run::{NewRun, Run};

use crate::build::terms;

/// Puts a run into the queue under the widest terms, as tests do that are
/// about something else.
pub async fn enqueue(runs: &dyn RunRepo, owner: &Actor, new: NewRun) -> Run {
    match runs.enqueue(owner, new, terms()).await.unwrap() {
        EnqueueOutcome::Enqueued(run) => *run,
        other => panic!("the run was not put into the queue: {other:?}"),
    }
}

/// Takes the next run, if one waits that is not left to another backend.
pub async fn claim(queue: &dyn RunQueue, request: ClaimRequest) -> Option<ClaimedRun> {
    match queue.claim(request).await.unwrap() {
        ClaimOutcome::Claimed(run) => Some(*run),
        ClaimOutcome::Nothing => None,
        ClaimOutcome::Deferred(patience) => panic!("what waits is deferred for {patience:?}"),
    }
}
