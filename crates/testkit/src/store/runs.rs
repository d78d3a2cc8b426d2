use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::{RunId, UserId};
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{Conflict, RepoError, RunRepo, RunTopic, WriteOutcome};
use atelier_domain::run::{NewRun, Run, RunEvent, RunFilter, RunStatus, RunTransition};
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::paging::page_of;
use super::run_row::RunRow;
use super::{FakeStore, State};

/// The runs of a [`FakeStore`], for their owners.
#[derive(Clone, Debug)]
pub struct FakeRunRepo(pub(super) FakeStore);

impl State {
    /// The waiting runs in the order in which they will be begun, if nothing
    /// else comes.
    pub(super) fn waiting(&self) -> Vec<RunId> {
        let mut left: Vec<(DateTime<Utc>, Uuid, UserId, RunId)> = self
            .runs
            .values()
            .filter(|row| row.run.status == RunStatus::Pending)
            .map(|row| {
                let run = &row.run;
                (run.created_at, run.id.as_uuid(), run.user_id, run.id)
            })
            .collect();
        left.sort_unstable();
        let mut served = self.served.clone();
        let mut count = self.claims;
        let mut order = Vec::with_capacity(left.len());
        while let Some(next) = (0..left.len()).min_by_key(|&at| {
            let served_at = left.get(at).and_then(|(_, _, user, _)| served.get(user));
            (served_at.copied(), at)
        }) {
            let (_, _, user, run) = left.remove(next);
            count += 1;
            served.insert(user, count);
            order.push(run);
        }
        order
    }

    /// The run as its owner sees it.
    fn view(row: &RunRow, waiting: &[RunId]) -> Run {
        Run {
            queue_position: waiting
                .iter()
                .position(|waits| *waits == row.run.id)
                .map(|position| position as u64),
            ..row.run.clone()
        }
    }

    fn own_run(&mut self, actor: &Actor, id: RunId) -> Option<&mut RunRow> {
        self.runs
            .get_mut(&id)
            .filter(|row| row.run.user_id == actor.user_id())
    }
}

#[async_trait]
impl RunRepo for FakeRunRepo {
    async fn enqueue(&self, actor: &Actor, new: NewRun) -> Result<Run, RepoError> {
        let mut state = self.0.open()?;
        if state.runs.contains_key(&new.id) {
            return Err(RepoError::Conflict(Conflict::Id));
        }
        let id = new.id;
        let row = RunRow::new(actor, new);
        let mut run = row.run.clone();
        state.runs.insert(id, row);
        state.signal(RunTopic::Queue);
        run.queue_position = state
            .waiting()
            .iter()
            .position(|waits| *waits == id)
            .map(|position| position as u64);
        Ok(run)
    }

    async fn get(&self, actor: &Actor, id: RunId) -> Result<Option<Run>, RepoError> {
        let mut state = self.0.open()?;
        let waiting = state.waiting();
        Ok(state
            .own_run(actor, id)
            .map(|row| State::view(row, &waiting)))
    }

    async fn list(
        &self,
        actor: &Actor,
        filter: RunFilter,
        page: PageRequest,
    ) -> Result<Page<Run>, RepoError> {
        let state = self.0.open()?;
        let waiting = state.waiting();
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
            .map(|row| State::view(row, &waiting));
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
        let mut state = self.0.open()?;
        Ok(state.own_run(actor, id).map(|row| {
            row.events
                .iter()
                .filter(|event| event.sequence > after_sequence)
                .take(usize::from(limit))
                .cloned()
                .collect()
        }))
    }
}
