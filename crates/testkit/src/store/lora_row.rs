use atelier_domain::actor::Actor;
use atelier_domain::digest::Sha256Digest;
use atelier_domain::ids::{LoraId, UserId};
use atelier_domain::lora::{
    BaseModelFilter, Lora, LoraContent, LoraFailure, LoraFilename, LoraFilter, LoraPath,
    LoraSource, LoraStatus, LoraVersion, NewLora, ReceivedLora,
};
use atelier_domain::ports::{BlobKey, Conflict, RepoError};
use atelier_domain::text::Description;
use chrono::{DateTime, Utc};

use super::State;
use super::paging::{contains_text, has_tag};

/// A LoRA as the store keeps it.
pub(super) struct LoraRow {
    pub(super) lora: Lora,
    /// Gone for its owner.
    pub(super) deleted: bool,
    /// Whether its object may be there.
    pub(super) has_object: bool,
    /// Takes the place of another one.
    pub(super) replaces: bool,
    /// How long the next sign of life is waited for.
    pub(super) expires_at: DateTime<Utc>,
}

impl LoraRow {
    pub(super) fn is_of(&self, actor: &Actor) -> bool {
        !self.deleted && self.lora.user_id == actor.user_id()
    }

    pub(super) fn is_reserved(&self) -> bool {
        !self.deleted
            && matches!(
                self.lora.status,
                LoraStatus::Uploading | LoraStatus::Importing
            )
    }

    pub(super) fn is_ready(&self) -> bool {
        !self.deleted && self.lora.status == LoraStatus::Ready
    }

    /// Whether it is the one that its filename stands for.
    pub(super) fn is_latest(&self) -> bool {
        self.is_ready() && self.lora.superseded_at.is_none()
    }

    pub(super) fn version(&self) -> Option<LoraVersion> {
        self.lora.content.as_ref().map(|content| content.version)
    }

    pub(super) fn path(&self) -> Option<&LoraPath> {
        self.lora
            .content
            .as_ref()
            .map(|content| &content.comfyui_path)
    }

    pub(super) fn has_name(&self, owner: UserId, filename: &LoraFilename) -> bool {
        self.lora.user_id == owner && self.lora.filename == *filename
    }

    pub(super) fn fail(&mut self, failure: LoraFailure) {
        self.lora.status = LoraStatus::Failed;
        self.lora.error = Some(failure);
    }

    pub(super) fn matches(&self, filter: &LoraFilter) -> bool {
        let lora = &self.lora;
        let content = lora.content.as_ref();
        let family = content
            .and_then(|content| content.facts.base_model.as_ref())
            .map(|base_model| base_model.family);
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
            && filter.base_model.is_none_or(|wanted| match wanted {
                BaseModelFilter::Family(wanted) => family == Some(wanted),
                BaseModelFilter::Unknown => family.is_none(),
            })
            && filter
                .hash
                .as_ref()
                .is_none_or(|hash| content.is_some_and(|content| content.hashes.answer_to(hash)))
    }
}

impl State {
    /// A row of the actor's whose bytes are on their way.
    pub(super) fn reserved(&mut self, actor: &Actor, id: LoraId) -> Option<&mut LoraRow> {
        self.loras
            .get_mut(&id)
            .filter(|row| row.is_of(actor) && row.is_reserved())
    }

    /// Whether the bytes stopped coming. Those that a worker is to bring come
    /// when it does.
    pub(super) fn is_abandoned(&self, row: &LoraRow, now: DateTime<Utc>) -> bool {
        row.is_reserved() && row.expires_at < now && !self.transfers.contains_key(&row.lora.id)
    }

    /// Reserves a place.
    pub(super) fn reserve(
        &mut self,
        actor: &Actor,
        new: NewLora,
        expires_at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<Lora, RepoError> {
        let owner = actor.user_id();
        if self.loras.contains_key(&new.id) {
            return Err(RepoError::Conflict(Conflict::Id));
        }
        let gives_way =
            |row: &LoraRow| row.lora.status == LoraStatus::Failed || self.is_abandoned(row, now);
        let namesakes = || {
            self.loras.values().filter(|row| {
                row.is_of(actor)
                    && row.lora.filename == new.filename
                    && row.lora.superseded_at.is_none()
            })
        };
        if !new.replaces && namesakes().any(|row| !gives_way(row)) {
            return Err(RepoError::Conflict(Conflict::LoraFilename));
        }
        let gone: Vec<LoraId> = namesakes()
            .filter(|row| gives_way(row))
            .map(|row| row.lora.id)
            .collect();
        for id in gone {
            self.remove(id);
        }
        let lora = Lora {
            id: new.id,
            user_id: owner,
            name: new.name,
            description: new.description,
            tags: new.tags,
            status: match new.source {
                LoraSource::Upload => LoraStatus::Uploading,
                LoraSource::GoogleDrive { .. } | LoraSource::Url { .. } => LoraStatus::Importing,
            },
            source: new.source,
            bytes_done: 0,
            bytes_total: new.bytes_total,
            content: None,
            error: None,
            blob_key: self.free_blob_key(new.id, owner, &new.filename),
            filename: new.filename,
            superseded_at: None,
            created_at: new.created_at,
        };
        let row = LoraRow {
            lora: lora.clone(),
            deleted: false,
            has_object: true,
            replaces: new.replaces,
            expires_at,
        };
        self.loras.insert(lora.id, row);
        Ok(lora)
    }

    /// Makes a reserved LoRA ready, as the latest of its filename.
    pub(super) fn make_ready(
        &mut self,
        id: LoraId,
        received: ReceivedLora,
        now: DateTime<Utc>,
    ) -> Option<Lora> {
        let row = self.loras.get(&id).filter(|row| row.is_reserved())?;
        let (owner, filename) = (row.lora.user_id, row.lora.filename.clone());
        let latest = self
            .loras
            .values()
            .filter(|row| row.is_ready() && row.has_name(owner, &filename))
            .filter_map(LoraRow::version)
            .max();
        let version = match latest {
            Some(latest) => LoraVersion::new(latest.number() + 1)?,
            None => LoraVersion::FIRST,
        };
        let comfyui_path = self.take_path(owner, &filename, received.hashes.sha256, id);
        for other in self.loras.values_mut() {
            if !other.deleted && other.lora.id != id && other.has_name(owner, &filename) {
                if other.is_latest() {
                    other.lora.superseded_at = Some(now);
                } else if other.lora.status != LoraStatus::Ready {
                    // It was there first, and now takes its turn.
                    other.replaces = true;
                }
            }
        }
        let lora = &mut self.loras.get_mut(&id)?.lora;
        lora.name = received.name;
        lora.description = received.description;
        lora.tags = received.tags;
        lora.status = LoraStatus::Ready;
        lora.bytes_done = received.file_size;
        lora.bytes_total = Some(received.file_size);
        lora.content = Some(LoraContent {
            file_size: received.file_size,
            hashes: received.hashes,
            version,
            comfyui_path,
            facts: received.facts,
        });
        Some(lora.clone())
    }

    /// Marks a row as deleted; one that nothing is left of goes.
    pub(super) fn remove(&mut self, id: LoraId) {
        let Some(row) = self.loras.get_mut(&id) else {
            return;
        };
        row.deleted = true;
        if !row.has_object {
            self.erase(id);
        }
    }

    /// Deletes a row with all that belongs to it. An upload stays: its pieces
    /// are still to be deleted.
    pub(super) fn erase(&mut self, id: LoraId) {
        self.loras.remove(&id);
        self.transfers.remove(&id);
        self.copies.retain(|(lora, _)| *lora != id);
        self.wanted_copies.retain(|wanted| wanted.lora != id);
    }

    fn free_blob_key(&self, id: LoraId, owner: UserId, filename: &LoraFilename) -> BlobKey {
        let plain = BlobKey::of_lora(owner, filename);
        let taken = |key: &BlobKey| {
            self.loras
                .values()
                .any(|row| row.has_object && row.lora.blob_key == *key)
        };
        if taken(&plain) {
            BlobKey::of_lora_alone(owner, id, filename)
        } else {
            plain
        }
    }

    /// The path for these bytes: the first candidate that is free or stands
    /// for them. The last one is nobody else's.
    fn take_path(
        &mut self,
        owner: UserId,
        filename: &LoraFilename,
        sha256: Sha256Digest,
        id: LoraId,
    ) -> LoraPath {
        let own = LoraPath::parse(&format!("user-{owner}/{id}.safetensors"))
            .expect("ids make good file names");
        let path = [
            LoraPath::first(owner, filename),
            LoraPath::versioned(owner, filename, &sha256),
        ]
        .into_iter()
        .find(|path| self.paths.get(path).is_none_or(|taken| *taken == sha256))
        .unwrap_or(own);
        self.paths.insert(path.clone(), sha256);
        path
    }
}
