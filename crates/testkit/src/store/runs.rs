use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::idempotency::{EarlierRequest, IdempotentRequest};
use atelier_domain::ids::RunId;
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{
    Conflict, EnqueueOutcome, EnqueueTerms, RepoError, RunRepo, RunTopic, WriteOutcome,
};
use atelier_domain::run::{
    NewRun, Run, RunBlueprint, RunEvent, RunFilter, RunStatus, RunTransition,
};
use chrono::{DateTime, TimeDelta, Utc};

use super::paging::page_of;
use super::run_row::RunRow;
use super::{FakeStore, State};

/// The runs of a [`FakeStore`], for their owners.
#[derive(Clone, Debug)]
pub struct FakeRunRepo(pub(super) FakeStore);

/// How many runs must have ended lately for a pace to be judged.
const ENDS_FOR_A_PACE: usize = 5;
/// How many of the latest ends are looked at.
const ENDS_LOOKED_AT: usize = 50;

impl State {
    /// The run as its owner sees it, with its place in the queue.
    fn view(&self, row: &RunRow, now: DateTime<Utc>) -> Run {
        let waits = row.run.status == RunStatus::Pending && row.lives_on.is_none();
        let position = self
            .waiting()
            .iter()
            .position(|waiting| waits && *waiting == row.run.id);
        let turns = position.and_then(|position| i32::try_from(position + 1).ok());
        Run {
            queue_position: position.map(|position| position as u64),
            estimated_start_at: turns.and_then(|turns| Some(now + self.pace(now)? * turns)),
            ..row.run.clone()
        }
    }

    /// How far apart the ends of runs are while the backends are busy.
    fn pace(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        let mut ends: Vec<_> = self
            .runs
            .values()
            .filter(|row| matches!(row.run.status, RunStatus::Completed | RunStatus::Failed))
            .filter_map(|row| row.run.completed_at.zip(row.run.started_at))
            .filter(|(ended, _)| *ended > now - TimeDelta::hours(1))
            .collect();
        ends.sort_unstable();
        let latest = ends.split_off(ends.len().saturating_sub(ENDS_LOOKED_AT));
        let gaps: Vec<TimeDelta> = latest
            .iter()
            .zip(latest.iter().skip(1))
            .filter(|((before, _), (_, begun))| begun < before)
            .map(|((before, _), (ended, _))| *ended - *before)
            .collect();
        let count = i32::try_from(gaps.len()).ok()?;
        (gaps.len() >= ENDS_FOR_A_PACE).then(|| gaps.into_iter().sum::<TimeDelta>() / count)
    }

    fn pending_of(&self, actor: &Actor) -> usize {
        self.runs
            .values()
            .filter(|row| row.run.user_id == actor.user_id())
            .filter(|row| row.run.status == RunStatus::Pending)
            .count()
    }

    fn own(&self, actor: &Actor, id: RunId) -> Option<&RunRow> {
        self.runs
            .get(&id)
            .filter(|row| row.run.user_id == actor.user_id())
    }

    fn own_run(&mut self, actor: &Actor, id: RunId) -> Option<&mut RunRow> {
        self.runs
            .get_mut(&id)
            .filter(|row| row.run.user_id == actor.user_id())
    }
}

#[async_trait]
impl RunRepo for FakeRunRepo {
    async fn earlier_request(
        &self,
        actor: &Actor,
        request: &IdempotentRequest,
    ) -> Result<Option<EarlierRequest>, RepoError> {
        let now = self.0.now();
        Ok(self.0.open()?.earlier_request(actor, request, now))
    }

    async fn enqueue(
        &self,
        actor: &Actor,
        new: NewRun,
        terms: EnqueueTerms,
    ) -> Result<EnqueueOutcome, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let earlier = terms
            .idempotency
            .as_ref()
            .and_then(|(request, _)| state.earlier_request(actor, request, now));
        if let Some(earlier) = earlier {
            return Ok(EnqueueOutcome::Earlier(earlier));
        }
        if state.runs.contains_key(&new.id) {
            return Err(RepoError::Conflict(Conflict::Id));
        }
        if state.pending_of(actor) as u64 >= u64::from(terms.max_pending) {
            return Ok(EnqueueOutcome::TooManyPending);
        }
        let retry_of = new
            .retry_of
            .filter(|repeated| state.own(actor, *repeated).is_some());
        let mut row = RunRow::new(actor, NewRun { retry_of, ..new });
        row.waiting_since = now;
        let run = row.run.clone();
        state.runs.insert(run.id, row);
        if let Some((request, answer)) = terms.idempotency {
            state.answer(actor, &request, answer, now);
        }
        state.signal(RunTopic::Queue);
        Ok(EnqueueOutcome::Enqueued(Box::new(run)))
    }

    async fn blueprint(&self, actor: &Actor, id: RunId) -> Result<Option<RunBlueprint>, RepoError> {
        let state = self.0.open()?;
        Ok(state.own(actor, id).map(RunRow::blueprint))
    }

    async fn get(&self, actor: &Actor, id: RunId) -> Result<Option<Run>, RepoError> {
        let now = self.0.now();
        let state = self.0.open()?;
        Ok(state.own(actor, id).map(|row| state.view(row, now)))
    }

    async fn status(&self, actor: &Actor, id: RunId) -> Result<Option<RunStatus>, RepoError> {
        let state = self.0.open()?;
        Ok(state.own(actor, id).map(|row| row.run.status))
    }

    async fn list(
        &self,
        actor: &Actor,
        filter: RunFilter,
        page: PageRequest,
    ) -> Result<Page<Run>, RepoError> {
        let state = self.0.open()?;
        let found = state
            .runs
            .values()
            .filter(|row| row.run.user_id == actor.user_id())
            .filter(|row| filter.status.is_none_or(|status| row.run.status == status))
            .filter(|row| {
                filter
                    .workflow_id
                    .is_none_or(|id| row.run.workflow_id == Some(id))
            })
            .map(|row| row.run.clone());
        Ok(page_of(found, page, Run::cursor))
    }

    async fn request_cancel(
        &self,
        actor: &Actor,
        id: RunId,
        at: DateTime<Utc>,
    ) -> Result<WriteOutcome<Run>, RepoError> {
        let mut state = self.0.open()?;
        let Some(row) = state.own_run(actor, id) else {
            return Ok(WriteOutcome::NotFound);
        };
        match row.run.status {
            RunStatus::Pending => row.end(RunTransition::Cancel, None, Vec::new(), at),
            RunStatus::Running => row.cancel_requested = true,
            RunStatus::Completed | RunStatus::Failed | RunStatus::Cancelled => {
                return Ok(WriteOutcome::Stale(row.run.clone()));
            }
        }
        let run = row.run.clone();
        state.signal(RunTopic::Run(id));
        Ok(WriteOutcome::Done(run))
    }

    async fn events(
        &self,
        actor: &Actor,
        id: RunId,
        after_sequence: i64,
        limit: u16,
    ) -> Result<Option<Vec<RunEvent>>, RepoError> {
        let state = self.0.open()?;
        Ok(state.own(actor, id).map(|row| {
            row.events
                .iter()
                .filter(|event| event.sequence > after_sequence)
                .take(usize::from(limit))
                .cloned()
                .collect()
        }))
    }
}
