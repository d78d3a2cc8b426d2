use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::ids::{LoraId, UserId};
use crate::lora::{
    BaseModel, BaseModelFilter, LoraFilename, LoraHash, LoraHashes, LoraPath, LoraVersion,
};
use crate::page::Cursor;
use crate::ports::BlobKey;
use crate::text::{Description, Name, Tags};

/// Where a LoRA stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LoraStatus {
    /// Its bytes are on their way from the owner.
    Uploading,
    /// Its bytes are on their way from somewhere else.
    Importing,
    /// Its bytes are there and checked; runs may use it.
    Ready,
    /// Its bytes could not be had; [`Lora::error`] says why.
    Failed,
}

impl LoraStatus {
    /// Every status.
    pub const ALL: [Self; 4] = [Self::Uploading, Self::Importing, Self::Ready, Self::Failed];

    /// The word that the API and the database use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Uploading => "uploading",
            Self::Importing => "importing",
            Self::Ready => "ready",
            Self::Failed => "failed",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == word)
    }
}

/// Where a LoRA's bytes come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoraSource {
    /// Its owner sent them.
    Upload,
    /// Google Drive has them.
    GoogleDrive {
        /// Drive's id of the file.
        file_id: String,
    },
    /// It was downloaded from an address.
    Url {
        /// The address, without credentials.
        url: String,
    },
}

/// A LoRA of somebody's, as its owner sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Lora {
    /// Its id.
    pub id: LoraId,
    /// Whose it is; nobody else sees or uses it.
    pub user_id: UserId,
    /// What it is called.
    pub name: Name,
    /// The name that workflows use; unique per user.
    pub filename: LoraFilename,
    /// What it is for.
    pub description: Option<Description>,
    /// Words to find it by.
    pub tags: Tags,
    /// Where it stands.
    pub status: LoraStatus,
    /// Where its bytes come from.
    pub source: LoraSource,
    /// How many bytes are there so far.
    pub bytes_done: u64,
    /// How many there will be, where that is known.
    pub bytes_total: Option<u64>,
    /// What is known of its bytes; only once it is ready.
    pub content: Option<LoraContent>,
    /// Why its bytes could not be had.
    pub error: Option<LoraFailure>,
    /// Where its bytes are, or will be.
    pub blob_key: BlobKey,
    /// When a later version took its place; runs find it by its version alone.
    pub superseded_at: Option<DateTime<Utc>>,
    /// When it was made.
    pub created_at: DateTime<Utc>,
}

impl Lora {
    /// Where the LoRA stands in a list.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.as_uuid(),
        }
    }
}

/// What is known of a LoRA's bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct LoraContent {
    /// How many there are.
    pub file_size: u64,
    /// Their digests.
    pub hashes: LoraHashes,
    /// The how-manyth bytes under this filename they are.
    pub version: LoraVersion,
    /// Where they go below every backend's LoRA folder. Never given to other
    /// bytes: ComfyUI does not notice new bytes under an old name
    /// (`reference/comfyui/PROTOCOL.md` section 9).
    pub comfyui_path: LoraPath,
    /// What the file says of itself.
    pub facts: LoraFacts,
}

/// What a LoRA file says of itself, by its tensors and by its metadata. The
/// latter is its maker's text: bounded in size, without control characters,
/// unproven.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LoraFacts {
    /// The family of models that it is for, where that can be told.
    pub base_model: Option<BaseModel>,
    /// What its maker calls it, at most 200 characters.
    pub title: Option<String>,
    /// The rank of its matrices: the most frequent one, where layers differ.
    pub rank: Option<u32>,
    /// How it changes a model, such as `LoRA`, `LoHa` or `LoKr`.
    pub network_type: Option<String>,
    /// Words that call it up in a prompt, the strongest first.
    pub trigger_words: Vec<String>,
    /// The rest, such as author and license, for people to look at.
    pub metadata: Map<String, Value>,
}

/// Why a LoRA's bytes could not be had, in words for its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LoraFailure {
    /// What sort of failure, a word of the API.
    pub code: String,
    /// What happened and what to do.
    pub message: String,
}

/// What is needed to reserve a place for a new [`Lora`]; its owner is the
/// actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewLora {
    /// Its id, from the `IdGen` port.
    pub id: LoraId,
    /// What it is called.
    pub name: Name,
    /// The name that workflows use.
    pub filename: LoraFilename,
    /// What it is for.
    pub description: Option<Description>,
    /// Words to find it by.
    pub tags: Tags,
    /// Where its bytes come from.
    pub source: LoraSource,
    /// How many bytes there will be, where that is known.
    pub bytes_total: Option<u64>,
    /// Whether it takes the place of a LoRA of that filename, which goes on
    /// until the new one is ready and then becomes a superseded version.
    pub replaces: bool,
    /// When it is made, from the `Clock` port.
    pub created_at: DateTime<Utc>,
}

impl NewLora {
    /// The LoRA as it stands once its place is reserved. Only its blob key may
    /// differ: where the plain one is taken it gets one of its own.
    pub fn reserved(&self, owner: UserId) -> Lora {
        Lora {
            id: self.id,
            user_id: owner,
            name: self.name.clone(),
            filename: self.filename.clone(),
            description: self.description.clone(),
            tags: self.tags.clone(),
            status: match self.source {
                LoraSource::Upload => LoraStatus::Uploading,
                LoraSource::GoogleDrive { .. } | LoraSource::Url { .. } => LoraStatus::Importing,
            },
            source: self.source.clone(),
            bytes_done: 0,
            bytes_total: self.bytes_total,
            content: None,
            error: None,
            blob_key: BlobKey::of_lora(owner, &self.filename),
            superseded_at: None,
            created_at: self.created_at,
        }
    }
}

/// What makes a reserved LoRA ready: its bytes, counted and checked, and its
/// final description, which may come after them.
#[derive(Clone, Debug, PartialEq)]
pub struct ReceivedLora {
    /// What it is called.
    pub name: Name,
    /// What it is for.
    pub description: Option<Description>,
    /// Words to find it by.
    pub tags: Tags,
    /// How many bytes there are.
    pub file_size: u64,
    /// Their digests.
    pub hashes: LoraHashes,
    /// What the file says of itself.
    pub facts: LoraFacts,
}

/// Which LoRAs a list holds, superseded versions never.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoraFilter {
    /// Only those that stand here.
    pub status: Option<LoraStatus>,
    /// Only those with this tag, exactly.
    pub tag: Option<String>,
    /// Only those whose name, filename or description contains this text,
    /// whatever the case.
    pub text: Option<String>,
    /// Only those for these models.
    pub base_model: Option<BaseModelFilter>,
    /// Only those that are known by this hash.
    pub hash: Option<LoraHash>,
}

impl LoraFilter {
    /// Describes the list, for [`Cursor::encode`].
    pub fn list_name(&self) -> String {
        format!(
            "loras?status={}&tag={:?}&q={:?}&base_model={}&hash={}",
            self.status.map_or("", LoraStatus::as_str),
            self.tag,
            self.text,
            self.base_model.map_or("", BaseModelFilter::as_str),
            self.hash.as_ref().map_or("", LoraHash::as_str)
        )
    }
}
