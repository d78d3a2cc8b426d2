use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures_core::Stream;
use serde_json::Value;
use thiserror::Error;

use crate::graph::GraphJson;
use crate::ids::RunId;
use crate::input::InputPath;
use crate::output::{BackendFile, BackendOutput};
use crate::ports::{ByteStream, Source};

/// Why a ComfyUI backend did not do what was asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ComfyError {
    /// No connection: the backend cannot have seen the request.
    #[error("ComfyUI cannot be reached")]
    Unreachable(#[source] Source),
    /// The request went out and no answer came: it may or may not have been
    /// carried out (`reference/comfyui/PROTOCOL.md` section 3).
    #[error("ComfyUI's answer was lost")]
    AnswerLost(#[source] Source),
    /// Something in front of the backend wants other credentials: 401, 403, or
    /// a redirect to a login page (`reference/comfyui/PROTOCOL.md` section 11).
    #[error(
        "ComfyUI, or what stands in front of it, answered {status}: it wants other credentials"
    )]
    Unauthorized {
        /// The HTTP status.
        status: u16,
    },
    /// The backend refused the prompt.
    #[error("ComfyUI refused the prompt")]
    Rejected(PromptRejection),
    /// The backend failed on its own, with a status of 5xx.
    #[error("ComfyUI answered {status}")]
    ServerError {
        /// The HTTP status.
        status: u16,
    },
    /// The backend has no such thing, such as a file that is gone.
    #[error("ComfyUI has no {0}")]
    NotFound(String),
    /// An answer that ComfyUI does not give.
    #[error("ComfyUI's answer makes no sense: {0}")]
    Protocol(String),
}

/// Why a prompt was refused, without the backend's own texts, which hold other
/// users' file names and server paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PromptRejection {
    /// ComfyUI's `error.type`, such as `prompt_outputs_failed_validation`.
    pub kind: String,
    /// What is wrong with which node.
    pub nodes: Vec<NodeRejection>,
}

/// What is wrong with one node of a refused prompt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRejection {
    /// The node.
    pub node_id: String,
    /// Its class.
    pub class_type: String,
    /// ComfyUI's error type, such as `value_not_in_list`.
    pub kind: String,
    /// The input at fault, where ComfyUI names one.
    pub input_name: Option<String>,
}

/// A prompt for a backend.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptSubmission {
    /// What the prompt is to be called. Backends before 0.3.44 ignore it.
    pub run_id: RunId,
    /// Whose socket gets the events: [`ComfyEvents::client_id`].
    pub client_id: String,
    /// The prompt.
    pub graph: GraphJson,
    /// ComfyUI's `extra_data`: an object. Its `extra_pnginfo` goes into the
    /// pictures.
    pub extra_data: Value,
}

/// A backend's answer to a prompt that it took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubmittedPrompt {
    /// What the backend calls it: not always what it was asked to.
    pub prompt_id: String,
    /// Output nodes that the backend left out because something is wrong with
    /// them: it runs the others (`reference/comfyui/PROTOCOL.md` section 3).
    pub dropped: Vec<NodeRejection>,
}

/// Where a prompt stands on its backend.
#[derive(Clone, Debug, PartialEq)]
pub enum PromptState {
    /// The backend knows no such prompt: it was restarted, or somebody
    /// deleted the prompt, or the prompt never arrived.
    Unknown,
    /// It waits; so many prompts are before it.
    Pending {
        /// How many, the running one included.
        ahead: u32,
    },
    /// The backend works on it.
    Running,
    /// It ended.
    Finished(PromptResult),
}

/// How a prompt ended, and what it left behind.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptResult {
    /// How.
    pub outcome: PromptOutcome,
    /// What it left behind; also after an error or an interrupt.
    pub outputs: Vec<BackendOutput>,
}

/// How a prompt ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PromptOutcome {
    /// Well.
    Success,
    /// A node failed.
    Failed {
        /// The node.
        node_id: Option<String>,
        /// Its class.
        node_type: Option<String>,
        /// The Python exception's type, such as `FileNotFoundError`: never its
        /// message.
        exception_type: Option<String>,
    },
    /// Somebody interrupted it.
    Interrupted,
}

/// Something that a backend tells over its socket. Events are hints: what is
/// true, [`ComfyClient::prompt_state`] says.
#[derive(Clone, Debug, PartialEq)]
pub enum ComfyEvent {
    /// So many prompts wait or run on the backend, whoever's.
    QueueRemaining(u64),
    /// A prompt began.
    Started {
        /// Which.
        prompt_id: String,
    },
    /// These nodes of a prompt need not run again.
    Cached {
        /// Which prompt.
        prompt_id: String,
        /// Which nodes.
        nodes: Vec<String>,
    },
    /// A node of a prompt runs.
    Executing {
        /// Which prompt.
        prompt_id: String,
        /// Which node.
        node_id: String,
    },
    /// A node made some steps.
    Progress {
        /// Which prompt.
        prompt_id: String,
        /// Which node.
        node_id: String,
        /// Steps done.
        value: u32,
        /// Steps in all.
        max: u32,
    },
    /// A node is done and has something to show.
    Executed {
        /// Which prompt.
        prompt_id: String,
        /// Which node.
        node_id: String,
    },
    /// A prompt ended, well or badly, and its history can be read now.
    Ended {
        /// Which.
        prompt_id: String,
    },
    /// What a prompt's picture looks like so far.
    Preview {
        /// Which prompt.
        prompt_id: String,
        /// Which node.
        node_id: String,
        /// The picture.
        image: PreviewImage,
    },
}

/// A small picture of what is being made; kept nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct PreviewImage {
    /// `image/jpeg` or `image/png`.
    pub content_type: PreviewFormat,
    /// The picture's bytes, at most [`PreviewImage::MAX_BYTES`].
    pub bytes: Bytes,
}

impl PreviewImage {
    /// Larger ones are dropped.
    pub const MAX_BYTES: usize = 512 * 1024;
}

impl fmt::Debug for PreviewImage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PreviewImage")
            .field("content_type", &self.content_type)
            .field("size_bytes", &self.bytes.len())
            .finish()
    }
}

/// The formats of previews (`reference/comfyui/PROTOCOL.md` section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PreviewFormat {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
}

impl PreviewFormat {
    /// Every format.
    pub const ALL: [Self; 2] = [Self::Jpeg, Self::Png];

    /// The media type.
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
        }
    }
}

/// A connected socket of a backend.
pub struct ComfyEvents {
    /// The client id of this socket alone: prompts submitted with it are told
    /// here.
    pub client_id: String,
    /// What comes; ends, or gives an error and ends, when the socket does.
    pub stream: Pin<Box<dyn Stream<Item = Result<ComfyEvent, ComfyError>> + Send>>,
}

impl fmt::Debug for ComfyEvents {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ComfyEvents")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

/// An output being fetched.
pub struct OutputReader {
    /// The backend's word for its media type.
    pub content_type: Option<String>,
    /// How many bytes, where the backend says.
    pub size_bytes: Option<u64>,
    /// The bytes.
    pub bytes: ByteStream<ComfyError>,
}

impl fmt::Debug for OutputReader {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("OutputReader")
            .field("content_type", &self.content_type)
            .field("size_bytes", &self.size_bytes)
            .finish_non_exhaustive()
    }
}

/// Which prompts a backend has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BackendQueue {
    /// Those that run: none or one.
    pub running: Vec<String>,
    /// Those that wait, in the order in which they will run.
    pub pending: Vec<String>,
}

/// What a backend offers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LoraCatalogue {
    /// The names of all files in its LoRA folders, relative, with `/`.
    pub files: BTreeSet<String>,
    /// `(class type, input name)` of every input whose options are those
    /// files, by the backend's `object_info`.
    pub inputs: BTreeSet<(String, String)>,
    /// Every class of node that it has.
    pub classes: BTreeSet<String>,
    /// The options of every other input that offers model files, such as
    /// checkpoints, or nothing at all, by class type and input name. LoRA files
    /// are in none of them.
    pub models: BTreeMap<(String, String), BTreeSet<String>>,
    /// `(class type, input name)` of every input that names a file of
    /// ComfyUI's input folder, by the backend's `object_info`.
    pub input_files: BTreeSet<(String, String)>,
}

/// What a backend says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendInformation {
    /// Its version, such as `0.33.0`.
    pub version: String,
}

/// One ComfyUI backend.
///
/// Implementations never follow a redirect, and never put a backend's texts
/// into an error that users may see.
#[cfg_attr(feature = "mock", mockall::automock)]
#[async_trait]
pub trait ComfyClient: Send + Sync {
    /// Hands a prompt to the backend.
    ///
    /// # Errors
    /// [`ComfyError::AnswerLost`] if the prompt may have been taken: ask
    /// [`ComfyClient::prompt_state`] before trying again, since the backend
    /// takes the same id twice.
    async fn submit(&self, submission: PromptSubmission) -> Result<SubmittedPrompt, ComfyError>;

    /// Says where a prompt stands, from the backend's own records.
    async fn prompt_state(&self, prompt_id: &str) -> Result<PromptState, ComfyError>;

    /// Stops a prompt, waiting or running.
    ///
    /// Where a version interrupts whatever runs, it is told so only while this
    /// prompt is the one that runs.
    async fn cancel(&self, prompt_id: &str) -> Result<(), ComfyError>;

    /// Says which prompts the backend has.
    async fn queue(&self) -> Result<BackendQueue, ComfyError>;

    /// Reads what the backend offers.
    async fn lora_catalogue(&self) -> Result<LoraCatalogue, ComfyError>;

    /// Reads what a checkpoint file says of itself: the `__metadata__` of its
    /// safetensors header. Empty where it says nothing or is no such file.
    async fn checkpoint_metadata(
        &self,
        checkpoint: &str,
    ) -> Result<BTreeMap<String, String>, ComfyError>;

    /// Puts a picture into the backend's input folder, where graphs name it by
    /// its path. One that is there already is left as it is; `bytes` has
    /// `size_bytes` of them.
    ///
    /// # Errors
    /// [`ComfyError::Protocol`] if the backend put it elsewhere.
    async fn place_input(
        &self,
        path: &InputPath,
        size_bytes: u64,
        bytes: ByteStream<Source>,
    ) -> Result<(), ComfyError>;

    /// Opens a socket under a client id that was never used before.
    async fn connect_events(&self) -> Result<ComfyEvents, ComfyError>;

    /// Begins to fetch a file.
    ///
    /// # Errors
    /// [`ComfyError::NotFound`] if the backend no longer has it.
    async fn fetch_output(&self, file: &BackendFile) -> Result<OutputReader, ComfyError>;

    /// Reads what the backend says of itself; also the cheapest sign of life.
    async fn information(&self) -> Result<BackendInformation, ComfyError>;
}
