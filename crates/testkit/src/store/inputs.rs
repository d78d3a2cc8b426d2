use std::collections::{BTreeMap, HashSet};

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::{InputId, UserId};
use atelier_domain::input::{Input, InputName};
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{Conflict, InputRepo, RepoError};
use chrono::{DateTime, Utc};

use super::paging::page_of;
use super::{FakeStore, State};

/// The pictures of a [`FakeStore`].
#[derive(Clone, Debug)]
pub struct FakeInputRepo(pub(super) FakeStore);

/// A picture as the store keeps it.
pub(super) struct InputRow {
    pub(super) input: Input,
    /// Gone for its owner since then.
    pub(super) deleted_at: Option<DateTime<Utc>>,
}

impl InputRow {
    pub(super) fn is_of(&self, actor: &Actor) -> bool {
        self.deleted_at.is_none() && self.input.user_id == actor.user_id()
    }

    fn is_meant_by(&self, name: &InputName) -> bool {
        match name {
            InputName::Latest(filename) => self.input.filename == *filename,
            InputName::At(path) => self.input.comfyui_path == *path,
        }
    }
}

impl State {
    fn own_inputs(&self, actor: &Actor) -> impl Iterator<Item = &InputRow> {
        self.inputs.values().filter(|row| row.is_of(actor))
    }

    fn needed_inputs(&self) -> HashSet<InputId> {
        self.runs
            .values()
            .filter(|row| !row.run.status.is_final())
            .flat_map(|row| row.input_ids.iter().copied())
            .collect()
    }
}

#[async_trait]
impl InputRepo for FakeInputRepo {
    async fn add(&self, actor: &Actor, input: Input) -> Result<Input, RepoError> {
        let mut state = self.0.open()?;
        if input.user_id != actor.user_id() {
            return Err(RepoError::Backend(
                "nobody stores pictures for others".into(),
            ));
        }
        let same = state
            .own_inputs(actor)
            .find(|row| row.input.filename == input.filename && row.input.sha256 == input.sha256);
        if let Some(same) = same {
            return Ok(same.input.clone());
        }
        if state.inputs.contains_key(&input.id) {
            return Err(RepoError::Conflict(Conflict::Id));
        }
        let row = InputRow {
            input: input.clone(),
            deleted_at: None,
        };
        state.inputs.insert(input.id, row);
        Ok(input)
    }

    async fn get(&self, actor: &Actor, id: InputId) -> Result<Option<Input>, RepoError> {
        let state = self.0.open()?;
        let row = state.inputs.get(&id).filter(|row| row.is_of(actor));
        Ok(row.map(|row| row.input.clone()))
    }

    async fn list(&self, actor: &Actor, page: PageRequest) -> Result<Page<Input>, RepoError> {
        let state = self.0.open()?;
        let own = state.own_inputs(actor).map(|row| row.input.clone());
        Ok(page_of(own, page, Input::cursor))
    }

    async fn find(&self, actor: &Actor, names: Vec<InputName>) -> Result<Vec<Input>, RepoError> {
        let state = self.0.open()?;
        let newest = |name| {
            state
                .own_inputs(actor)
                .filter(|row| row.is_meant_by(name))
                .max_by_key(|row| (row.input.created_at, row.input.id))
        };
        let found: BTreeMap<InputId, Input> = names
            .iter()
            .filter_map(newest)
            .map(|row| (row.input.id, row.input.clone()))
            .collect();
        Ok(found.into_values().collect())
    }

    async fn delete(
        &self,
        actor: &Actor,
        id: InputId,
        at: DateTime<Utc>,
    ) -> Result<bool, RepoError> {
        let mut state = self.0.open()?;
        let row = state.inputs.get_mut(&id).filter(|row| row.is_of(actor));
        let Some(row) = row else {
            return Ok(false);
        };
        row.deleted_at = Some(at);
        Ok(true)
    }

    async fn load_many(&self, owner: UserId, ids: Vec<InputId>) -> Result<Vec<Input>, RepoError> {
        let state = self.0.open()?;
        let wanted: HashSet<InputId> = ids.into_iter().collect();
        Ok(wanted
            .iter()
            .filter_map(|id| state.inputs.get(id))
            .filter(|row| row.input.user_id == owner)
            .map(|row| row.input.clone())
            .collect())
    }

    async fn cleanable(&self, limit: u16) -> Result<Vec<Input>, RepoError> {
        let state = self.0.open()?;
        let needed = state.needed_inputs();
        let mut gone: Vec<_> = state
            .inputs
            .values()
            .filter(|row| !needed.contains(&row.input.id))
            .filter_map(|row| Some((row.deleted_at?, row.input.id)))
            .collect();
        gone.sort_unstable();
        gone.truncate(usize::from(limit));
        Ok(gone
            .iter()
            .filter_map(|(_, id)| Some(state.inputs.get(id)?.input.clone()))
            .collect())
    }

    async fn forget(&self, id: InputId) -> Result<(), RepoError> {
        let mut state = self.0.open()?;
        if state
            .inputs
            .get(&id)
            .is_some_and(|row| row.deleted_at.is_some())
        {
            state.inputs.remove(&id);
        }
        Ok(())
    }
}
