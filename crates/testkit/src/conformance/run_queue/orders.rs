use std::collections::HashMap;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::{ClaimToken, RunId};
use atelier_domain::ports::{
    ClaimOutcome, ClaimRequest, ClaimedRun, QueueError, ReleaseReason, RunReport, WriteOutcome,
};
use atelier_domain::run::{
    NewRun, Run, RunEvent, RunFailure, RunFailureCode, RunPhase, RunPriority, RunStatus,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

use super::Harness;
use crate::build::{a_claim, an_actor, an_output, next_time};

const BACKENDS: [&str; 3] = ["backend-1", "backend-2", "backend-3"];
const PEOPLE: usize = 3;

/// Something that a person, a worker or the passing of time does. Numbers
/// choose among what there is, counted round and round.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A person asks for a run.
    Enqueue {
        /// Who.
        person: usize,
        /// Its priority.
        priority: i64,
    },
    /// A worker asks for a run.
    Claim {
        /// For which backend.
        backend: usize,
        /// Whether its lease runs out at once.
        expires: bool,
    },
    /// A worker writes under a claim, held or lost.
    Write {
        /// Which claim, of all that ever were.
        claim: usize,
        /// What.
        write: Write,
    },
    /// A person wants a run cancelled.
    RequestCancel {
        /// Which.
        run: usize,
    },
    /// Claims that ran out are taken back.
    Recover,
    /// Runs that wait for one backend are freed.
    Free,
}

/// What a worker writes.
#[derive(Clone, Copy, Debug)]
pub enum Write {
    /// It goes on.
    Report(RunPhase),
    /// It is still there.
    Beat,
    /// It gives the run back.
    Release(ReleaseReason),
    /// It ends the run well.
    Complete,
    /// It ends it badly.
    Fail,
    /// It ends it as its owner asked.
    Cancelled,
}

fn writes() -> impl Strategy<Value = Write> {
    let reasons = vec![
        ReleaseReason::HandOver { may_live: true },
        ReleaseReason::HandOver { may_live: false },
        ReleaseReason::WorkerLost,
        ReleaseReason::BackendAway,
        ReleaseReason::BackendLost,
        ReleaseReason::ExecutionLost,
    ];
    prop_oneof![
        3 => prop::sample::select(RunPhase::ALL.to_vec()).prop_map(Write::Report),
        1 => Just(Write::Beat),
        6 => prop::sample::select(reasons).prop_map(Write::Release),
        1 => Just(Write::Complete),
        1 => Just(Write::Fail),
        1 => Just(Write::Cancelled),
    ]
}

/// Orders of up to `length` steps.
pub fn orders(length: usize) -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        2 => (0..PEOPLE, -10_i64..=10)
            .prop_map(|(person, priority)| Step::Enqueue { person, priority }),
        5 => (0..BACKENDS.len(), any::<bool>())
            .prop_map(|(backend, expires)| Step::Claim { backend, expires }),
        6 => (0..64_usize, writes()).prop_map(|(claim, write)| Step::Write { claim, write }),
        1 => (0..64_usize).prop_map(|run| Step::RequestCancel { run }),
        1 => Just(Step::Recover),
        1 => Just(Step::Free),
    ];
    prop::collection::vec(step, length / 2..=length)
}

/// Carries the steps out against a store in which nothing waits, and checks
/// after each that stale claims changed nothing and that the run's history is
/// one that there can be; at the end, that every run can be brought to an end.
pub async fn check_order(h: &Harness, steps: &[Step]) {
    let mut world = World::new(h);
    for step in steps {
        world.take(*step).await;
    }
    world.end().await;
}

/// Random orders of everything that can happen to runs.
pub async fn any_order_of_steps_comes_to_an_end(h: &Harness) {
    const CASES: usize = 4;
    let mut runner = TestRunner::deterministic();
    for _ in 0..CASES {
        let steps = orders(48).new_tree(&mut runner).unwrap().current();
        check_order(h, &steps).await;
    }
}

struct World<'h> {
    h: &'h Harness,
    people: Vec<Actor>,
    runs: Vec<(Actor, RunId)>,
    claims: Vec<ClaimedRun>,
    /// Which claim has a run.
    held: HashMap<RunId, ClaimToken>,
}

fn chosen<T>(of: &[T], number: usize) -> Option<&T> {
    number.checked_rem(of.len()).and_then(|place| of.get(place))
}

impl<'h> World<'h> {
    fn new(h: &'h Harness) -> Self {
        Self {
            h,
            people: (0..PEOPLE).map(|_| an_actor()).collect(),
            runs: Vec::new(),
            claims: Vec::new(),
            held: HashMap::new(),
        }
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Enqueue { person, priority } => self.enqueue(person, priority).await,
            Step::Claim { backend, expires } => {
                if let Some(name) = chosen(&BACKENDS, backend) {
                    self.claim(name, expires).await;
                }
            }
            Step::Write { claim, write } => {
                if let Some(claim) = chosen(&self.claims, claim).cloned() {
                    self.write(&claim, write).await;
                }
            }
            Step::RequestCancel { run } => {
                if let Some((owner, id)) = chosen(&self.runs, run).cloned() {
                    self.request_cancel(&owner, id).await;
                }
            }
            Step::Recover => {
                for id in self.h.queue.recover_expired(100).await.unwrap() {
                    assert!(self.held.remove(&id).is_some(), "nobody had {id}");
                    self.look(id).await;
                }
            }
            Step::Free => {
                let freed = self.h.queue.free_stranded(Duration::ZERO, 100).await;
                for id in freed.unwrap() {
                    assert!(!self.held.contains_key(&id), "somebody has {id}");
                    self.look(id).await;
                }
            }
        }
    }

    async fn enqueue(&mut self, person: usize, priority: i64) {
        let Some(owner) = chosen(&self.people, person).cloned() else {
            return;
        };
        let new = NewRun {
            priority: RunPriority::new(priority).unwrap(),
            ..self.h.new_run(&owner).await
        };
        let run = crate::enqueue(&*self.h.runs, &owner, new).await;
        self.runs.push((owner, run.id));
        self.look(run.id).await;
    }

    async fn claim(&mut self, backend: &str, expires: bool) -> bool {
        let request = ClaimRequest {
            lease: if expires {
                Duration::ZERO
            } else {
                Duration::from_hours(1)
            },
            ..a_claim(backend)
        };
        let ClaimOutcome::Claimed(claimed) = self.h.queue.claim(request).await.unwrap() else {
            return false;
        };
        let earlier = self.held.insert(claimed.run_id, claimed.token);
        assert_eq!(earlier, None, "two workers have {}", claimed.run_id);
        let run = self.look(claimed.run_id).await;
        assert_eq!(run.status, RunStatus::Running);
        assert_eq!(run.backend.as_deref(), Some(backend));
        assert_eq!(run.attempt, claimed.attempt);
        self.claims.push(*claimed);
        true
    }

    async fn write(&mut self, claim: &ClaimedRun, write: Write) {
        let (id, token) = (claim.run_id, claim.token);
        let before = self.seen(id).await;
        let outcome = self.written(id, token, write).await;
        if self.held.get(&id) == Some(&token) {
            outcome.unwrap();
        } else {
            assert!(
                matches!(outcome, Err(QueueError::ClaimLost)),
                "{write:?} under a stale claim: {outcome:?}"
            );
            assert_eq!(self.seen(id).await, before, "a stale claim changed the run");
        }
        if self.look(id).await.status != RunStatus::Running {
            self.held.remove(&id);
        }
    }

    async fn written(&self, id: RunId, token: ClaimToken, write: Write) -> Result<(), QueueError> {
        let queue = &self.h.queue;
        match write {
            Write::Report(phase) => {
                let report = RunReport {
                    phase: Some(phase),
                    ..RunReport::default()
                };
                queue.report(id, token, report).await
            }
            Write::Beat => {
                let lease = Duration::from_hours(1);
                queue.heartbeat(id, token, lease).await.map(drop)
            }
            Write::Release(reason) => queue.release(id, token, reason).await.map(drop),
            Write::Complete => queue.complete(id, token, vec![an_output(id, 0)]).await,
            Write::Fail => {
                let failure = RunFailure::new(RunFailureCode::ExecutionFailed, "It broke.");
                queue.fail(id, token, failure, vec![]).await
            }
            Write::Cancelled => queue.cancelled(id, token, vec![]).await,
        }
    }

    async fn request_cancel(&mut self, owner: &Actor, id: RunId) {
        let (before, _) = self.seen(id).await;
        let outcome = self.h.runs.request_cancel(owner, id, next_time()).await;
        let expected = if before.status.is_final() {
            WriteOutcome::Stale(before)
        } else {
            WriteOutcome::Done(self.look(id).await)
        };
        assert_eq!(outcome.unwrap(), expected);
    }

    async fn seen(&self, id: RunId) -> (Run, Vec<RunEvent>) {
        let known = self.runs.iter().find(|(_, known)| *known == id);
        let (owner, _) = known.expect("only these runs are in the store");
        let run = self.h.run(owner, id).await;
        // Others come and go before it.
        let run = Run {
            queue_position: None,
            estimated_start_at: None,
            ..run
        };
        (run, self.h.events(owner, id).await)
    }

    /// Checks that what is told of a run can be.
    async fn look(&self, id: RunId) -> Run {
        let (run, events) = self.seen(id).await;
        let statuses: Vec<RunStatus> = events
            .iter()
            .filter_map(|event| RunStatus::parse(event.data.get("status")?.as_str()?))
            .collect();
        for pair in statuses.windows(2) {
            let possible = match pair {
                [RunStatus::Pending, next] => *next != RunStatus::Pending,
                [RunStatus::Running, next] => *next != RunStatus::Running,
                _ => false,
            };
            assert!(possible, "{statuses:?}");
        }
        assert_eq!(statuses.last(), Some(&run.status), "{statuses:?}");
        assert_eq!(run.status.is_final(), run.completed_at.is_some());
        assert_eq!(run.status == RunStatus::Failed, run.error.is_some());
        let last = events.last().and_then(|event| event.data.get("status"));
        assert!(!run.status.is_final() || last.is_some(), "{events:?}");
        run
    }

    /// Brings every run to its end; then no claim holds anything.
    async fn end(&mut self) {
        for claim in self.claims.clone() {
            if self.held.get(&claim.run_id) == Some(&claim.token) {
                self.write(&claim, Write::Complete).await;
            }
        }
        for backend in BACKENDS {
            while self.claim(backend, false).await {
                let claim = self.claims.last().cloned().expect("it was just made");
                self.write(&claim, Write::Complete).await;
            }
        }
        for (_, id) in &self.runs {
            let run = self.look(*id).await;
            assert!(run.status.is_final(), "stuck: {run:?}");
        }
        for claim in self.claims.clone() {
            self.write(&claim, Write::Beat).await;
        }
        let expired = self.h.queue.recover_expired(100).await.unwrap();
        assert_eq!(expired, [], "a lease is left");
    }
}
