use std::cmp::Reverse;
use std::collections::{HashMap, HashSet, VecDeque};

use atelier_domain::ids::{RunId, UserId};
use atelier_domain::ports::{BACKEND_REPORT_LIFETIME, BackendReport, ClaimRequest};
use atelier_domain::run::RunStatus;
use chrono::{DateTime, TimeDelta, Utc};
use uuid::Uuid;

use super::State;
use super::run_row::RunRow;

/// How many people's runs are looked at before a claim gives up for now.
const LOOKED_AT: usize = 16;

/// What a worker said of a backend, and when.
pub(super) struct Told {
    pub(super) report: BackendReport,
    pub(super) at: DateTime<Utc>,
}

/// What a claim comes to.
pub(super) enum Placement {
    Take(RunId),
    Defer(TimeDelta),
    Nothing,
}

/// How well a backend suits a run: LoRAs there, checkpoint loaded, and how
/// few runs it has.
type Suitability = (usize, bool, Reverse<u64>);

impl State {
    /// Chooses the run of a claim.
    pub(super) fn place(&mut self, request: &ClaimRequest, now: DateTime<Utc>) -> Placement {
        let returning = self
            .runs
            .values()
            .filter(|row| row.returns_to(&request.backend))
            .min_by_key(|row| (row.waiting_since, row.run.id));
        if let Some(row) = returning {
            return Placement::Take(row.run.id);
        }
        if self.in_flight(&request.backend) >= u64::from(request.max_in_flight) {
            return Placement::Nothing;
        }
        let mut shortest: Option<TimeDelta> = None;
        for id in self.heads(request.max_running).into_iter().take(LOOKED_AT) {
            match self.patience(id, request, now) {
                Some(patience) => {
                    shortest = Some(shortest.map_or(patience, |known| known.min(patience)));
                }
                None => return Placement::Take(id),
            }
        }
        shortest.map_or(Placement::Nothing, Placement::Defer)
    }

    /// How much longer a run is left to a backend that suits it better; `None`
    /// if there is none or it had its chance.
    fn patience(
        &mut self,
        id: RunId,
        request: &ClaimRequest,
        now: DateTime<Utc>,
    ) -> Option<TimeDelta> {
        let row = self.runs.get(&id)?;
        let mine = self.suitability(&request.backend, row, now);
        let best = self
            .backends_with_room(now)
            .into_iter()
            .filter(|name| *name != request.backend)
            .map(|name| self.suitability(&name, row, now))
            .max()
            .filter(|best| *best > mine)?;
        let affinity = TimeDelta::from_std(request.affinity).unwrap_or(TimeDelta::MAX);
        let affinity = if (best.0, best.1) == (mine.0, mine.1) {
            affinity / 10
        } else {
            affinity
        };
        let since = row.deferred_since.unwrap_or(now);
        let patience = affinity - (now - since);
        if patience <= TimeDelta::zero() {
            return None;
        }
        self.runs.get_mut(&id)?.deferred_since = Some(since);
        Some(patience)
    }

    fn suitability(&self, backend: &str, row: &RunRow, now: DateTime<Utc>) -> Suitability {
        let loras: HashSet<_> = row.lora_ids.iter().collect();
        let there = loras
            .into_iter()
            .filter(|lora| self.copies.contains(&(**lora, backend.to_owned())))
            .count();
        let told = || self.told(now).filter(|told| told.report.backend == backend);
        let loaded =
            row.checkpoint.is_some() && told().any(|told| told.report.checkpoint == row.checkpoint);
        let foreign = told().map(|told| told.report.foreign_prompts).max();
        let load = self.in_flight(backend) + u64::from(foreign.unwrap_or(0));
        (there, loaded, Reverse(load))
    }

    pub(super) fn told(&self, now: DateTime<Utc>) -> impl Iterator<Item = &Told> {
        self.backends
            .values()
            .filter(move |told| told.at + BACKEND_REPORT_LIFETIME > now)
    }

    fn backends_with_room(&self, now: DateTime<Utc>) -> HashSet<String> {
        self.told(now)
            .filter(|told| told.report.answers)
            .filter(|told| {
                self.in_flight(&told.report.backend) < u64::from(told.report.max_in_flight)
            })
            .map(|told| told.report.backend.clone())
            .collect()
    }

    fn in_flight(&self, backend: &str) -> u64 {
        self.runs
            .values()
            .filter(|row| row.run.status == RunStatus::Running)
            .filter(|row| row.run.backend.as_deref() == Some(backend))
            .count() as u64
    }

    fn running_of(&self, user: UserId) -> usize {
        self.runs
            .values()
            .filter(|row| row.runs() && row.run.user_id == user)
            .count()
    }

    /// Of each person's runs the one that is begun next, in the order of the
    /// people's turns; none of those who have enough runs under way.
    fn heads(&self, max_running: Option<u32>) -> Vec<RunId> {
        let mut heads: Vec<_> = self
            .queues()
            .into_iter()
            .filter(|(user, _)| {
                max_running.is_none_or(|most| (self.running_of(*user) as u64) < u64::from(most))
            })
            .filter_map(|(user, queue)| Some((self.served.get(&user).copied(), *queue.front()?)))
            .collect();
        heads.sort_unstable_by_key(|(served, waiting)| (*served, waiting.age()));
        heads.into_iter().map(|(_, waiting)| waiting.run).collect()
    }

    /// The waiting runs in the order in which they will be begun, if nothing
    /// else comes: first those that a backend may have still, then in turns.
    pub(super) fn waiting(&self) -> Vec<RunId> {
        let mut returning: Vec<_> = self
            .runs
            .values()
            .filter(|row| row.run.status == RunStatus::Pending && row.lives_on.is_some())
            .map(|row| (row.waiting_since, row.run.id))
            .collect();
        returning.sort_unstable();
        let mut order: Vec<RunId> = returning.into_iter().map(|(_, id)| id).collect();
        let mut queues = self.queues();
        let mut served = self.served.clone();
        let mut count = self.claims;
        while let Some((_, _, user)) = queues
            .iter()
            .filter_map(|(user, queue)| {
                Some((served.get(user).copied(), queue.front()?.age(), *user))
            })
            .min()
        {
            let next = queues.get_mut(&user).and_then(VecDeque::pop_front);
            order.extend(next.map(|waiting| waiting.run));
            count += 1;
            served.insert(user, count);
        }
        order
    }

    /// What any backend may begin, person by person.
    fn queues(&self) -> HashMap<UserId, VecDeque<Waiting>> {
        let mut queues: HashMap<UserId, VecDeque<Waiting>> = HashMap::new();
        for row in self.runs.values() {
            if row.run.status == RunStatus::Pending && row.lives_on.is_none() {
                let waiting = Waiting {
                    priority: Reverse(row.run.priority.value()),
                    created_at: row.run.created_at,
                    run: row.run.id,
                };
                queues
                    .entry(row.run.user_id)
                    .or_default()
                    .push_back(waiting);
            }
        }
        for queue in queues.values_mut() {
            queue.make_contiguous().sort_unstable();
        }
        queues
    }
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    priority: Reverse<i8>,
    created_at: DateTime<Utc>,
    run: RunId,
}

impl Waiting {
    fn age(&self) -> (DateTime<Utc>, Uuid) {
        (self.created_at, self.run.as_uuid())
    }
}
