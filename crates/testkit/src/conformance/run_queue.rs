//! What every [`RunQueue`] must do.

mod bounds;
mod claims;
mod endings;
mod leases;
mod orders;
mod placement;
mod races;
mod releases;
mod reports;
mod waits;

use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::RunId;
use atelier_domain::ports::{
    ClaimRequest, ClaimedRun, LoraRepo, QueueError, RunQueue, RunRepo, RunReport, WorkflowRepo,
    WriteOutcome,
};
use atelier_domain::run::{NewRun, Run, RunEvent, RunEventKind, RunStatus};

pub use bounds::*;
pub use claims::*;
pub use endings::*;
pub use leases::*;
pub use orders::*;
pub use placement::*;
pub use races::*;
pub use releases::*;
pub use reports::*;
pub use waits::*;

use super::{AgeAnswers, KeepAlive};
use crate::build::{a_claim, a_new_run, a_workflow, an_actor, next_time};

/// A store under test. It must be this harness's alone: a claim takes whatever
/// waits.
pub struct Harness {
    /// The queue under test.
    pub queue: Arc<dyn RunQueue>,
    /// The same runs, for their owners.
    pub runs: Arc<dyn RunRepo>,
    /// Workflows in the same store.
    pub workflows: Arc<dyn WorkflowRepo>,
    /// LoRAs in the same store.
    pub loras: Arc<dyn LoraRepo>,
    /// Makes the answers to a person's idempotent requests older than they are
    /// kept.
    pub age_answers: AgeAnswers,
    /// What must live as long as the harness.
    pub keep_alive: KeepAlive,
}

super::opaque_debug!(Harness);

/// The backend that claims name unless a case is about backends.
const BACKEND: &str = "backend-1";

/// Runs out while a case looks on.
const SHORT: Duration = Duration::from_millis(50);

/// Runs out soon, but not before the next few calls on a busy machine.
const BRIEF: Duration = Duration::from_millis(750);

impl Harness {
    async fn new_run(&self, owner: &Actor) -> NewRun {
        let workflow = self.workflows.create(owner, a_workflow()).await.unwrap();
        a_new_run(workflow.id)
    }

    async fn enqueued(&self, owner: &Actor) -> RunId {
        let new = self.new_run(owner).await;
        crate::enqueue(&*self.runs, owner, new).await.id
    }

    async fn claimed(&self) -> ClaimedRun {
        self.claimed_by(a_claim(BACKEND)).await
    }

    async fn claimed_by(&self, request: ClaimRequest) -> ClaimedRun {
        let claimed = crate::claim(&*self.queue, request).await;
        claimed.expect("a run waits")
    }

    /// A run of a new tenant, under a claim.
    async fn running(&self) -> (Actor, ClaimedRun) {
        let owner = an_actor();
        let id = self.enqueued(&owner).await;
        let claimed = self.claimed().await;
        assert_eq!(claimed.run_id, id, "something else waits in this store");
        (owner, claimed)
    }

    async fn run(&self, owner: &Actor, id: RunId) -> Run {
        let run = self.runs.get(owner, id).await.unwrap();
        run.expect("the owner sees the run")
    }

    async fn events(&self, owner: &Actor, id: RunId) -> Vec<RunEvent> {
        let events = self.runs.events(owner, id, 0, 1_000).await.unwrap();
        let events = events.expect("the owner sees the run");
        for (place, event) in (1_i64..).zip(&events) {
            assert_eq!(event.sequence, place, "the sequence has a gap: {events:?}");
        }
        events
    }

    async fn events_of(&self, owner: &Actor, id: RunId, kind: RunEventKind) -> Vec<RunEvent> {
        let mut events = self.events(owner, id).await;
        events.retain(|event| event.kind == kind);
        events
    }

    /// The run's statuses so far, as its events tell them.
    async fn history(&self, owner: &Actor, id: RunId) -> Vec<String> {
        let events = self.events_of(owner, id, RunEventKind::Status).await;
        let status = |event: &RunEvent| {
            let word = event.data.get("status").and_then(|word| word.as_str());
            word.expect("a status event names the status").to_owned()
        };
        events.iter().map(status).collect()
    }

    async fn report(&self, claimed: &ClaimedRun, report: RunReport) {
        self.queue
            .report(claimed.run_id, claimed.token, report)
            .await
            .unwrap();
    }

    async fn request_cancel(&self, owner: &Actor, id: RunId) -> Run {
        let outcome = self.runs.request_cancel(owner, id, next_time()).await;
        match outcome.unwrap() {
            WriteOutcome::Done(run) => run,
            other => panic!("the owner's request was not taken: {other:?}"),
        }
    }

    /// Waits until the lease of a claim ran out and the run was recovered.
    async fn recovered(&self, id: RunId) {
        crate::wait_until("the recovery of a run", crate::PATIENCE, async || {
            self.queue.recover_expired(100).await.unwrap().contains(&id)
        })
        .await;
    }
}

fn a_short_claim() -> ClaimRequest {
    ClaimRequest {
        lease: SHORT,
        ..a_claim(BACKEND)
    }
}

fn a_brief_claim() -> ClaimRequest {
    ClaimRequest {
        lease: BRIEF,
        ..a_claim(BACKEND)
    }
}

/// Has run out as soon as it is there.
fn an_expired_claim() -> ClaimRequest {
    ClaimRequest {
        lease: Duration::ZERO,
        ..a_claim(BACKEND)
    }
}

fn prompt_id_report(prompt_id: &str) -> RunReport {
    RunReport {
        comfyui_prompt_id: Some(prompt_id.to_owned()),
        ..RunReport::default()
    }
}

fn is_lost<T>(outcome: &Result<T, QueueError>) -> bool {
    matches!(outcome, Err(QueueError::ClaimLost))
}

fn assert_over(run: &Run, status: RunStatus) {
    assert_eq!(run.status, status);
    assert_eq!(run.phase, None);
    assert!(run.completed_at.is_some());
    assert_eq!(run.queue_position, None);
}

/// Tests a `RunQueue`; see [`conformance`](crate::conformance).
#[macro_export]
macro_rules! run_queue_conformance {
    ($harness:expr) => {
        $crate::__cases! { run_queue in run_queue_conformance, $harness;
            a_claim_of_nothing_is_none,
            a_claim_hands_over_what_was_enqueued,
            a_claimed_run_is_running,
            what_is_over_or_running_is_not_claimed,
            a_users_runs_are_claimed_oldest_first,
            claims_go_round_between_users,
            the_user_served_longest_ago_comes_first,
            a_released_run_waits_with_its_old_place,
            nobody_has_more_runs_under_way_than_allowed,
            who_is_passed_over_keeps_their_turn,
            claims_at_once_do_not_pass_the_bound_together,
            what_may_be_alive_is_taken_up_again_beyond_the_bound,
            figures_tell_how_the_queue_is,
            no_run_is_claimed_twice_at_once,
            runs_enqueued_while_others_claim_are_all_claimed,
            completing_stores_the_outputs_in_order,
            completing_without_outputs_is_completing,
            a_completed_run_has_made_all_its_progress,
            failing_keeps_the_reason_and_what_outputs_there_are,
            cancelling_keeps_what_outputs_there_are,
            an_ended_run_is_out_of_reach,
            a_running_run_is_not_cancelled_at_once,
            asking_twice_for_the_end_changes_nothing,
            a_heartbeat_says_whether_to_cancel,
            reports_keep_what_they_do_not_name,
            every_report_that_changes_something_is_an_event,
            numbers_of_a_report_are_read_back,
            a_foreign_token_changes_nothing,
            a_lost_claim_changes_nothing,
            an_unexpired_claim_is_not_recovered,
            an_expired_claim_is_recovered_once,
            recovery_takes_at_most_its_limit,
            a_heartbeat_keeps_the_claim,
            a_run_to_be_cancelled_that_no_backend_knows_ends_at_recovery,
            a_run_to_be_cancelled_that_a_backend_knows_waits_for_a_worker,
            recovering_the_last_attempt_fails_the_run,
            a_hand_over_counts_no_attempt_and_remembers_the_backend,
            a_lost_worker_counts_an_attempt_and_remembers_the_backend,
            a_lost_backend_counts_an_attempt_and_is_forgotten,
            a_hand_over_of_what_runs_nowhere_leaves_the_run_to_all,
            a_run_of_a_lost_worker_may_live_under_its_own_id,
            each_class_of_losses_has_its_own_budget,
            hand_overs_never_exhaust_a_run,
            a_new_attempt_begins_its_progress_anew,
            a_run_that_may_be_alive_keeps_its_progress,
            a_run_to_be_cancelled_ends_when_it_is_given_back_for_good,
            higher_priorities_of_one_person_come_first,
            priorities_do_not_count_between_people,
            runs_that_may_be_alive_come_first_however_full_the_backend_is,
            a_backend_takes_no_more_than_it_may_have,
            a_run_is_left_to_the_backend_with_its_loras,
            a_run_is_left_to_the_backend_with_its_checkpoint,
            a_run_is_left_briefly_to_the_backend_with_fewer_runs,
            loras_count_more_than_checkpoints_and_those_more_than_runs,
            a_backend_that_cannot_take_a_run_is_not_waited_for,
            a_run_is_left_to_another_backend_for_a_while_only,
            what_is_left_to_others_keeps_nobody_else_waiting,
            stranded_runs_are_freed_for_all,
            a_stranded_run_to_be_cancelled_ends,
            overdue_runs_that_wait_again_are_timed_out,
            a_run_that_never_began_has_all_the_time,
            strays_are_those_that_are_over_or_elsewhere,
            what_was_given_up_on_a_backend_is_a_stray_there,
            a_run_found_alive_waits_for_that_backend_alone,
            old_answers_are_forgotten,
            the_pace_of_recent_runs_gives_an_estimate,
            any_order_of_steps_comes_to_an_end,
            events_of_writers_at_once_have_no_gap,
            a_cancellation_is_never_lost_to_a_claim,
        }
    };
}
