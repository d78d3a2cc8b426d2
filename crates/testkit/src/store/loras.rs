use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::digest::Sha256Digest;
use atelier_domain::ids::{LoraId, UserId};
use atelier_domain::lora::{
    Lora, LoraContent, LoraFailure, LoraFilename, LoraFilter, LoraPath, LoraSource, LoraStatus,
    NewLora, ReceivedLora,
};
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{BlobKey, Conflict, LoraRepo, RepoError, WriteOutcome};
use atelier_domain::text::Description;
use chrono::{DateTime, Utc};

use super::paging::{contains_text, has_tag, page_of};
use super::{ABANDONED_AFTER, FakeStore, State};

/// The LoRAs of a [`FakeStore`].
#[derive(Clone, Debug)]
pub struct FakeLoraRepo(pub(super) FakeStore);

/// A LoRA as the store keeps it.
pub(super) struct LoraRow {
    lora: Lora,
    /// Gone for its owner.
    deleted: bool,
    /// Whether its object may be there.
    has_object: bool,
    pub(super) last_sign_of_life: DateTime<Utc>,
}

impl LoraRow {
    fn is_of(&self, actor: &Actor) -> bool {
        !self.deleted && self.lora.user_id == actor.user_id()
    }

    fn is_reserved(&self) -> bool {
        !self.deleted
            && matches!(
                self.lora.status,
                LoraStatus::Uploading | LoraStatus::Importing
            )
    }

    fn is_abandoned(&self, now: DateTime<Utc>) -> bool {
        self.is_reserved() && self.last_sign_of_life + ABANDONED_AFTER < now
    }

    fn matches(&self, filter: &LoraFilter) -> bool {
        let lora = &self.lora;
        let texts = [
            Some(lora.name.as_str()),
            Some(lora.filename.as_str()),
            lora.description.as_ref().map(Description::as_str),
        ];
        filter.status.is_none_or(|status| lora.status == status)
            && filter
                .tag
                .as_ref()
                .is_none_or(|tag| has_tag(lora.tags.as_slice(), tag))
            && filter
                .text
                .as_ref()
                .is_none_or(|text| contains_text(&texts, text))
    }
}

impl State {
    fn reserved(&mut self, actor: &Actor, id: LoraId) -> Option<&mut LoraRow> {
        self.loras
            .get_mut(&id)
            .filter(|row| row.is_of(actor) && row.is_reserved())
    }

    /// Lets go of whatever may not stand in the way of a new reservation.
    fn make_way(&mut self, owner: UserId, filename: &LoraFilename, now: DateTime<Utc>) {
        for row in self.loras.values_mut() {
            let in_the_way = row.lora.user_id == owner && row.lora.filename == *filename;
            if in_the_way && (row.lora.status == LoraStatus::Failed || row.is_abandoned(now)) {
                row.deleted = true;
            }
        }
        self.loras.retain(|_, row| row.has_object || !row.deleted);
    }

    fn free_blob_key(&self, id: LoraId, owner: UserId, filename: &LoraFilename) -> BlobKey {
        let plain = BlobKey::parse(LoraPath::first(owner, filename).blob_key());
        let taken = |key: &BlobKey| {
            self.loras
                .values()
                .any(|row| row.has_object && row.lora.blob_key == *key)
        };
        match plain {
            Ok(key) if !taken(&key) => key,
            _ => BlobKey::parse(format!("user-{owner}/loras/{id}/{filename}"))
                .expect("ids and file names are good segments"),
        }
    }

    /// The path for these bytes; `None` if both candidates belong to others.
    fn take_path(
        &mut self,
        owner: UserId,
        filename: &LoraFilename,
        sha256: Sha256Digest,
    ) -> Option<LoraPath> {
        let candidates = [
            LoraPath::first(owner, filename),
            LoraPath::versioned(owner, filename, &sha256),
        ];
        let path = candidates
            .into_iter()
            .find(|path| self.paths.get(path).is_none_or(|taken| *taken == sha256))?;
        self.paths.insert(path.clone(), sha256);
        Some(path)
    }

    fn is_needed(&self, id: LoraId) -> bool {
        self.runs
            .values()
            .any(|row| !row.run.status.is_final() && row.lora_ids.contains(&id))
    }
}

#[async_trait]
impl LoraRepo for FakeLoraRepo {
    async fn reserve(&self, actor: &Actor, new: NewLora) -> Result<Lora, RepoError> {
        let now = self.0.now();
        let mut state = self.0.open()?;
        if state.loras.contains_key(&new.id) {
            return Err(RepoError::Conflict(Conflict::Id));
        }
        state.make_way(actor.user_id(), &new.filename, now);
        if state
            .loras
            .values()
            .any(|row| row.is_of(actor) && row.lora.filename == new.filename)
        {
            return Err(RepoError::Conflict(Conflict::LoraFilename));
        }
        let lora = Lora {
            id: new.id,
            user_id: actor.user_id(),
            name: new.name,
            description: new.description,
            tags: new.tags,
            status: match new.source {
                LoraSource::Upload => LoraStatus::Uploading,
                LoraSource::GoogleDrive { .. } => LoraStatus::Importing,
            },
            source: new.source,
            bytes_done: 0,
            bytes_total: new.bytes_total,
            content: None,
            error: None,
            blob_key: state.free_blob_key(new.id, actor.user_id(), &new.filename),
            filename: new.filename,
            created_at: new.created_at,
        };
        let row = LoraRow {
            lora: lora.clone(),
            deleted: false,
            has_object: true,
            last_sign_of_life: now,
        };
        state.loras.insert(lora.id, row);
        Ok(lora)
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
        row.last_sign_of_life = now;
        Ok(WriteOutcome::Done(()))
    }

    async fn mark_ready(
        &self,
        actor: &Actor,
        id: LoraId,
        received: ReceivedLora,
    ) -> Result<WriteOutcome<Lora>, RepoError> {
        let mut state = self.0.open()?;
        let Some(row) = state.reserved(actor, id) else {
            return Ok(WriteOutcome::NotFound);
        };
        let filename = row.lora.filename.clone();
        let comfyui_path = state
            .take_path(actor.user_id(), &filename, received.sha256)
            .ok_or(RepoError::Conflict(Conflict::LoraFilename))?;
        let Some(row) = state.reserved(actor, id) else {
            return Ok(WriteOutcome::NotFound);
        };
        let lora = &mut row.lora;
        lora.name = received.name;
        lora.description = received.description;
        lora.tags = received.tags;
        lora.status = LoraStatus::Ready;
        lora.bytes_done = received.file_size;
        lora.bytes_total = Some(received.file_size);
        lora.content = Some(LoraContent {
            file_size: received.file_size,
            sha256: received.sha256,
            comfyui_path,
            facts: received.facts,
        });
        Ok(WriteOutcome::Done(lora.clone()))
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
        row.lora.status = LoraStatus::Failed;
        row.lora.error = Some(failure);
        Ok(WriteOutcome::Done(row.lora.clone()))
    }

    async fn get(&self, actor: &Actor, id: LoraId) -> Result<Option<Lora>, RepoError> {
        let state = self.0.open()?;
        let row = state.loras.get(&id).filter(|row| row.is_of(actor));
        Ok(row.map(|row| row.lora.clone()))
    }

    async fn find_ready(
        &self,
        actor: &Actor,
        filenames: Vec<LoraFilename>,
    ) -> Result<Vec<Lora>, RepoError> {
        let state = self.0.open()?;
        Ok(state
            .loras
            .values()
            .filter(|row| row.is_of(actor) && row.lora.status == LoraStatus::Ready)
            .filter(|row| filenames.contains(&row.lora.filename))
            .map(|row| row.lora.clone())
            .collect())
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
            .filter(|row| row.is_of(actor) && row.matches(&filter))
            .map(|row| row.lora.clone());
        Ok(page_of(found, page, Lora::cursor))
    }

    async fn delete(&self, actor: &Actor, id: LoraId) -> Result<WriteOutcome<()>, RepoError> {
        let mut state = self.0.open()?;
        let Some(row) = state.loras.get_mut(&id).filter(|row| row.is_of(actor)) else {
            return Ok(WriteOutcome::NotFound);
        };
        row.deleted = true;
        if !row.has_object {
            state.loras.remove(&id);
        }
        Ok(WriteOutcome::Done(()))
    }

    async fn load_for_sync(&self, ids: Vec<LoraId>) -> Result<Vec<Lora>, RepoError> {
        let state = self.0.open()?;
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
            .filter(|row| row.has_object)
            .filter(|row| {
                row.deleted || row.lora.status == LoraStatus::Failed || row.is_abandoned(now)
            })
            .filter(|row| !state.is_needed(row.lora.id))
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
                row.lora.status = LoraStatus::Failed;
                row.lora.error = Some(LoraFailure {
                    code: "abandoned".to_owned(),
                    message: "the bytes stopped coming; upload the file again".to_owned(),
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
                state.loras.remove(&id);
            } else if row.lora.status == LoraStatus::Failed {
                row.has_object = false;
            }
        }
        Ok(())
    }
}
