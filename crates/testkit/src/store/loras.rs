use std::collections::{BTreeMap, BTreeSet, HashSet};

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{
    Lora, LoraFailure, LoraFilter, LoraPath, LoraStatus, NewLora, ReceivedLora,
};
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{BlobOwner, LoraName, LoraRepo, PathContent, RepoError, WriteOutcome};
use atelier_domain::run::RunStatus;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::lora_row::LoraRow;
use super::paging::page_of;
use super::{ABANDONED_AFTER, FakeStore, State};

/// The LoRAs of a [`FakeStore`].
#[derive(Clone, Debug)]
pub struct FakeLoraRepo(pub(super) FakeStore);

impl State {
    fn own_lora(&self, actor: &Actor, id: LoraId) -> Option<&LoraRow> {
        self.loras.get(&id).filter(|row| row.is_of(actor))
    }

    /// The ready LoRA of that name; of several that share a path, the one that
    /// its filename stands for.
    fn named(&self, actor: &Actor, name: &LoraName) -> Option<&LoraRow> {
        let mut ready = self
            .loras
            .values()
            .filter(|row| row.is_of(actor) && row.is_ready());
        match name {
            LoraName::Latest(filename) => {
                ready.find(|row| row.is_latest() && row.lora.filename == *filename)
            }
            LoraName::Version(filename, version) => {
                ready.find(|row| row.version() == Some(*version) && row.lora.filename == *filename)
            }
            LoraName::At(path) => ready
                .filter(|row| row.path() == Some(path))
                .max_by_key(|row| (row.is_latest(), row.lora.created_at, row.lora.id)),
        }
    }

    fn is_needed(&self, id: LoraId) -> bool {
        self.runs
            .values()
            .any(|row| !row.run.status.is_final() && row.lora_ids.contains(&id))
    }

    fn is_due(&self, row: &LoraRow, now: DateTime<Utc>) -> bool {
        let id = row.lora.id;
        // An upload in pieces fails as an upload.
        let is_abandoned = self.is_abandoned(row, now) && !self.uploads.contains_key(&id);
        let is_over = row.deleted || row.lora.status == LoraStatus::Failed || is_abandoned;
        row.has_object && is_over && !self.is_being_brought(id, now) && !self.is_needed(id)
    }
}

#[async_trait]
impl LoraRepo for FakeLoraRepo {
    async fn reserve(&self, actor: &Actor, new: NewLora) -> Result<Lora, RepoError> {
        let now = self.0.now();
        self.0
            .open()?
            .reserve(actor, new, now + ABANDONED_AFTER, now)
    }

    async fn record_progress(
        &self,
        actor: &Actor,
        id: LoraId,
        bytes_done: u64,
    ) -> Result<WriteOutcome<()>, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let Some(row) = state.reserved(actor, id) else {
            return Ok(WriteOutcome::NotFound);
        };
        row.lora.bytes_done = bytes_done;
        row.expires_at = row.expires_at.max(now + ABANDONED_AFTER);
        Ok(WriteOutcome::Done(()))
    }

    async fn mark_ready(
        &self,
        actor: &Actor,
        id: LoraId,
        received: ReceivedLora,
    ) -> Result<WriteOutcome<Lora>, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        if state.reserved(actor, id).is_none() {
            return Ok(WriteOutcome::NotFound);
        }
        let ready = state.make_ready(id, received, now);
        Ok(ready.map_or(WriteOutcome::NotFound, WriteOutcome::Done))
    }

    async fn mark_failed(
        &self,
        actor: &Actor,
        id: LoraId,
        failure: LoraFailure,
    ) -> Result<WriteOutcome<Lora>, RepoError> {
        let mut state = self.0.open()?;
        let Some(row) = state.reserved(actor, id) else {
            return Ok(WriteOutcome::NotFound);
        };
        row.fail(failure);
        Ok(WriteOutcome::Done(row.lora.clone()))
    }

    async fn get(&self, actor: &Actor, id: LoraId) -> Result<Option<Lora>, RepoError> {
        let state = self.0.open()?;
        Ok(state.own_lora(actor, id).map(|row| row.lora.clone()))
    }

    async fn find_ready(
        &self,
        actor: &Actor,
        names: Vec<LoraName>,
    ) -> Result<Vec<Lora>, RepoError> {
        let state = self.0.open()?;
        let found: BTreeMap<LoraId, Lora> = names
            .iter()
            .filter_map(|name| state.named(actor, name))
            .map(|row| (row.lora.id, row.lora.clone()))
            .collect();
        Ok(found.into_values().collect())
    }

    async fn versions(&self, actor: &Actor, id: LoraId) -> Result<Option<Vec<Lora>>, RepoError> {
        let state = self.0.open()?;
        let Some(asked) = state.own_lora(actor, id) else {
            return Ok(None);
        };
        let mut versions: Vec<&LoraRow> = state
            .loras
            .values()
            .filter(|row| row.is_ready())
            .filter(|row| row.has_name(asked.lora.user_id, &asked.lora.filename))
            .collect();
        versions.sort_by_key(|row| std::cmp::Reverse(row.version()));
        Ok(Some(versions.iter().map(|row| row.lora.clone()).collect()))
    }

    async fn list(
        &self,
        actor: &Actor,
        filter: LoraFilter,
        page: PageRequest,
    ) -> Result<Page<Lora>, RepoError> {
        let state = self.0.open()?;
        let found = state
            .loras
            .values()
            .filter(|row| row.is_of(actor) && row.lora.superseded_at.is_none())
            .filter(|row| row.matches(&filter))
            .map(|row| row.lora.clone());
        Ok(page_of(found, page, Lora::cursor))
    }

    async fn delete(&self, actor: &Actor, id: LoraId) -> Result<WriteOutcome<()>, RepoError> {
        let mut state = self.0.open()?;
        let Some(row) = state.own_lora(actor, id) else {
            return Ok(WriteOutcome::NotFound);
        };
        let mut gone = vec![id];
        if row.is_latest() {
            let earlier = state.loras.values().filter(|other| {
                other.is_ready()
                    && other.lora.superseded_at.is_some()
                    && other.has_name(row.lora.user_id, &row.lora.filename)
            });
            gone.extend(earlier.map(|other| other.lora.id));
        }
        for id in gone {
            state.remove(id);
        }
        Ok(WriteOutcome::Done(()))
    }

    async fn load_for_sync(&self, ids: Vec<LoraId>) -> Result<Vec<Lora>, RepoError> {
        let state = self.0.open()?;
        let ids: BTreeSet<LoraId> = ids.into_iter().collect();
        Ok(ids
            .iter()
            .filter_map(|id| state.loras.get(id))
            .map(|row| row.lora.clone())
            .collect())
    }

    async fn due_for_cleaning(&self, limit: u16) -> Result<Vec<Lora>, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        let mut due: Vec<_> = state
            .loras
            .values()
            .filter(|row| state.is_due(row, now))
            .map(|row| (row.lora.created_at, row.lora.id))
            .collect();
        due.sort_unstable();
        due.truncate(usize::from(limit));
        let mut loras = Vec::with_capacity(due.len());
        for (_, id) in due {
            let Some(row) = state.loras.get_mut(&id) else {
                continue;
            };
            if row.is_reserved() {
                // Its object goes next, so it must not become ready any more.
                row.fail(LoraFailure {
                    code: "abandoned".to_owned(),
                    message: "The bytes stopped coming; send the file again.".to_owned(),
                });
            }
            loras.push(row.lora.clone());
        }
        Ok(loras)
    }

    async fn forget(&self, id: LoraId) -> Result<(), RepoError> {
        let mut state = self.0.open()?;
        if let Some(row) = state.loras.get_mut(&id) {
            if row.deleted {
                state.erase(id);
            } else if row.lora.status == LoraStatus::Failed {
                row.has_object = false;
            }
        }
        Ok(())
    }

    async fn paths_in_use(&self) -> Result<BTreeSet<LoraPath>, RepoError> {
        let state = self.0.open()?;
        let needed: HashSet<LoraId> = state
            .runs
            .values()
            .filter(|row| {
                row.run.status == RunStatus::Running
                    || row.run.status == RunStatus::Pending && row.lives_on.is_some()
            })
            .flat_map(|row| row.lora_ids.iter().copied())
            .collect();
        Ok(needed
            .iter()
            .filter_map(|id| state.loras.get(id)?.path().cloned())
            .collect())
    }

    async fn contents_at(&self, paths: Vec<LoraPath>) -> Result<Vec<PathContent>, RepoError> {
        let state = self.0.open()?;
        let paths: BTreeSet<LoraPath> = paths.into_iter().collect();
        Ok(paths
            .into_iter()
            .filter_map(|path| {
                let sha256 = *state.paths.get(&path)?;
                let is_alive = state
                    .loras
                    .values()
                    .any(|row| !row.deleted && row.path() == Some(&path));
                Some(PathContent {
                    path,
                    sha256,
                    is_alive,
                })
            })
            .collect())
    }

    async fn known_owners(&self, owners: Vec<BlobOwner>) -> Result<BTreeSet<BlobOwner>, RepoError> {
        let state = self.0.open()?;
        let is_known = |owner: &BlobOwner| match owner {
            BlobOwner::Lora(key) => state
                .loras
                .values()
                .any(|row| row.has_object && row.lora.blob_key == *key),
            BlobOwner::Input(key) => state.inputs.values().any(|row| row.input.blob_key == *key),
            BlobOwner::Upload(id) => state.uploads.contains_key(id),
            BlobOwner::Run(user, run) => state
                .runs
                .get(run)
                .is_some_and(|row| row.run.user_id == *user),
        };
        Ok(owners.into_iter().filter(is_known).collect())
    }

    async fn installation(&self) -> Result<Uuid, RepoError> {
        Ok(self.0.open()?.installation)
    }
}
