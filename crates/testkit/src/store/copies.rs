use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraPath, LoraStatus};
use atelier_domain::ports::{CopyState, LoraCopies, LoraCopy, RepoError, WriteOutcome};
use chrono::{DateTime, Utc};

use super::{FakeStore, State};

/// Where the LoRAs of a [`FakeStore`] are on backends' disks.
#[derive(Clone, Debug)]
pub struct FakeLoraCopies(pub(super) FakeStore);

/// A copy that a backend is to get. The oldest comes first.
pub(super) struct WantedCopy {
    pub(super) lora: LoraId,
    backend: String,
    /// When a worker took it up.
    taken_at: Option<DateTime<Utc>>,
}

/// How long a copy that was taken up counts as asked for.
const UNDER_WAY: Duration = Duration::from_mins(10);

impl State {
    fn copy_states(&self, actor: &Actor, loras: &[LoraId], now: DateTime<Utc>) -> Vec<LoraCopy> {
        let backends: BTreeSet<&str> = self
            .told(now)
            .map(|told| told.report.backend.as_str())
            .collect();
        let loras: BTreeSet<LoraId> = loras
            .iter()
            .filter(|id| self.loras.get(id).is_some_and(|row| row.is_of(actor)))
            .copied()
            .collect();
        let mut states = Vec::new();
        for backend in backends {
            for lora in &loras {
                states.push(LoraCopy {
                    backend: backend.to_owned(),
                    lora_id: *lora,
                    state: self.copy_state(backend, *lora),
                });
            }
        }
        states
    }

    fn copy_state(&self, backend: &str, lora: LoraId) -> CopyState {
        let is_wanted = |wanted: &WantedCopy| wanted.lora == lora && wanted.backend == backend;
        if self.copies.contains(&(lora, backend.to_owned())) {
            CopyState::Present
        } else if self.wanted_copies.iter().any(is_wanted) {
            CopyState::Requested
        } else {
            CopyState::Absent
        }
    }
}

#[async_trait]
impl LoraCopies for FakeLoraCopies {
    async fn states(&self, actor: &Actor, loras: Vec<LoraId>) -> Result<Vec<LoraCopy>, RepoError> {
        let now = self.0.now();
        Ok(self.0.open()?.copy_states(actor, &loras, now))
    }

    async fn request(
        &self,
        actor: &Actor,
        lora: LoraId,
    ) -> Result<WriteOutcome<Vec<LoraCopy>>, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let Some(row) = state.loras.get(&lora).filter(|row| row.is_of(actor)) else {
            return Ok(WriteOutcome::NotFound);
        };
        let is_ready = row.lora.status == LoraStatus::Ready;
        let states = state.copy_states(actor, &[lora], now);
        if !is_ready {
            return Ok(WriteOutcome::Stale(states));
        }
        let absent = states
            .into_iter()
            .filter(|copy| copy.state == CopyState::Absent)
            .map(|copy| WantedCopy {
                lora,
                backend: copy.backend,
                taken_at: None,
            });
        state.wanted_copies.extend(absent);
        Ok(WriteOutcome::Done(state.copy_states(actor, &[lora], now)))
    }

    async fn take_requests(&self, backend: &str, limit: u16) -> Result<Vec<Lora>, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        state
            .wanted_copies
            .retain(|wanted| wanted.taken_at.is_none_or(|at| at + UNDER_WAY >= now));
        let waiting = state
            .wanted_copies
            .iter_mut()
            .filter(|wanted| wanted.backend == backend && wanted.taken_at.is_none());
        let mut taken = Vec::new();
        for wanted in waiting.take(usize::from(limit)) {
            wanted.taken_at = Some(now);
            taken.push(wanted.lora);
        }
        Ok(taken
            .iter()
            .filter_map(|id| state.loras.get(id).filter(|row| row.is_ready()))
            .map(|row| row.lora.clone())
            .collect())
    }

    async fn tell_gone(&self, backend: &str, paths: Vec<LoraPath>) -> Result<(), RepoError> {
        let mut state = self.0.open()?;
        let State { copies, loras, .. } = &mut *state;
        copies.retain(|(lora, of)| {
            let content = loras.get(lora).and_then(|row| row.lora.content.as_ref());
            of != backend || content.is_none_or(|content| !paths.contains(&content.comfyui_path))
        });
        Ok(())
    }
}
