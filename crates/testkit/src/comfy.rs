use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use atelier_domain::output::{BackendFile, BackendFolder, BackendOutput, BackendOutputContent};
use atelier_domain::ports::{
    BackendInformation, BackendQueue, CancelOutcome, ComfyClient, ComfyError, ComfyEvent,
    ComfyEvents, LoraCatalogue, NodeRejection, OutputReader, PromptOutcome, PromptRejection,
    PromptResult, PromptState, PromptSubmission, SubmittedPrompt,
};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::{Outage, PATIENCE, wait_until};

/// How the backend answers one submission.
#[derive(Clone, Debug, PartialEq)]
pub enum SubmitAnswer {
    /// It takes the prompt, without these output nodes.
    Taken {
        /// The nodes that it leaves out; none for a sound prompt.
        dropped: Vec<NodeRejection>,
    },
    /// It takes the prompt, but the answer is lost.
    TakenUnheard,
    /// The prompt is lost on its way; whoever sent it hears the same as if
    /// the answer were.
    LostUnseen,
    /// There is no connection.
    Unreachable,
    /// It refuses the prompt.
    Rejected(PromptRejection),
    /// Something in front of it wants other credentials.
    Unauthorized(u16),
    /// It fails on its own.
    ServerError(u16),
}

/// What becomes of a prompt that the backend took.
#[derive(Clone, Debug, PartialEq)]
pub enum Then {
    /// It ends at once, and the socket says so.
    Ends(PromptResult),
    /// It ends when its state was asked for so many times, and the socket says
    /// nothing: late, or on a silent socket.
    EndsSilentlyAfter {
        /// How many questions are answered with `Running`.
        questions: u32,
        /// How it ends.
        result: PromptResult,
    },
    /// It stays in the queue until the test moves it.
    Waits,
    /// It runs until the test moves it.
    Runs,
    /// The backend forgets it at once, as after a restart.
    Vanishes,
}

/// What the backend does with one submission.
#[derive(Clone, Debug, PartialEq)]
pub struct PromptScript {
    /// How it answers.
    pub answer: SubmitAnswer,
    /// What it calls the prompt; `None` for the run's id, as backends since
    /// 0.3.44 do.
    pub prompt_id: Option<String>,
    /// What happens then.
    pub then: Then,
}

impl PromptScript {
    /// Takes the prompt; `then` happens.
    pub const fn taken(then: Then) -> Self {
        Self {
            answer: SubmitAnswer::Taken {
                dropped: Vec::new(),
            },
            prompt_id: None,
            then,
        }
    }

    /// Takes the prompt and ends it well, with these outputs.
    pub const fn succeeds(outputs: Vec<BackendOutput>) -> Self {
        Self::taken(Then::Ends(PromptResult {
            outcome: PromptOutcome::Success,
            outputs,
        }))
    }

    /// Takes the prompt and ends it with a failed node.
    pub fn fails(node_id: &str, node_type: &str, exception_type: &str) -> Self {
        Self::taken(Then::Ends(PromptResult {
            outcome: PromptOutcome::Failed {
                node_id: Some(node_id.to_owned()),
                node_type: Some(node_type.to_owned()),
                exception_type: Some(exception_type.to_owned()),
            },
            outputs: Vec::new(),
        }))
    }

    /// Does not take the prompt.
    pub const fn refused(answer: SubmitAnswer) -> Self {
        Self {
            answer,
            prompt_id: None,
            then: Then::Vanishes,
        }
    }
}

/// A backend that does what the test says, and remembers what it was asked.
/// Clones share it.
///
/// Each submission takes the next [`PromptScript`]; without one it ends well
/// with one picture, which [`ComfyClient::fetch_output`] hands out.
#[derive(Clone)]
pub struct ScriptedComfy {
    state: Arc<Mutex<ComfyState>>,
    outage: Outage,
}

#[derive(Default)]
struct ComfyState {
    scripts: VecDeque<PromptScript>,
    submissions: Vec<PromptSubmission>,
    prompts: HashMap<String, Prompt>,
    /// Prompts that wait or run, in the order of their submission.
    order: Vec<String>,
    cancelled: Vec<String>,
    cancel_unsupported: bool,
    files: HashMap<(BackendFolderKey, String, String), StoredFile>,
    catalogue: LoraCatalogue,
    version: String,
    sockets: HashMap<String, UnboundedSender<Result<ComfyEvent, ComfyError>>>,
    sockets_opened: u64,
}

type BackendFolderKey = &'static str;

#[derive(Clone)]
struct StoredFile {
    content_type: Option<String>,
    bytes: Bytes,
}

struct Prompt {
    client_id: String,
    state: PromptState,
    questions_left: u32,
    late: Option<PromptResult>,
}

impl ScriptedComfy {
    /// A backend of version 0.33.0 without LoRAs.
    pub fn new() -> Self {
        Self {
            state: Arc::new(Mutex::new(ComfyState {
                version: "0.33.0".to_owned(),
                ..ComfyState::default()
            })),
            outage: Outage::default(),
        }
    }

    /// Says what becomes of the next submission that has no script yet.
    pub fn script(&self, script: PromptScript) {
        self.lock().scripts.push_back(script);
    }

    /// Sets what the backend offers.
    pub fn set_catalogue(&self, catalogue: LoraCatalogue) {
        self.lock().catalogue = catalogue;
    }

    /// Puts a file where [`ComfyClient::fetch_output`] finds it, and says how
    /// the history names it, as an image of node `node_id`.
    pub fn put_image(
        &self,
        node_id: &str,
        filename: &str,
        bytes: impl Into<Bytes>,
    ) -> BackendOutput {
        let file = BackendFile {
            filename: filename.to_owned(),
            subfolder: String::new(),
            folder: BackendFolder::Output,
        };
        self.put_file(&file, Some("image/png"), bytes);
        BackendOutput {
            node_id: node_id.to_owned(),
            key: "images".to_owned(),
            content: BackendOutputContent::File(file),
        }
    }

    /// Puts a file where [`ComfyClient::fetch_output`] finds it.
    pub fn put_file(
        &self,
        file: &BackendFile,
        content_type: Option<&str>,
        bytes: impl Into<Bytes>,
    ) {
        let stored = StoredFile {
            content_type: content_type.map(str::to_owned),
            bytes: bytes.into(),
        };
        self.lock().files.insert(file_key(file), stored);
    }

    /// Deletes a file.
    pub fn lose_file(&self, file: &BackendFile) {
        self.lock().files.remove(&file_key(file));
    }

    /// Makes the backend too old to cancel what runs.
    pub fn cannot_cancel(&self) {
        self.lock().cancel_unsupported = true;
    }

    /// Moves a prompt to another state; tells the socket of its end or start.
    /// A prompt that the backend does not know becomes known.
    pub fn set_state(&self, prompt_id: &str, prompt_state: PromptState) {
        self.lock().enter(prompt_id, prompt_state);
    }

    /// Sends an event to every socket.
    pub fn push(&self, event: &ComfyEvent) {
        for socket in self.lock().sockets.values() {
            drop(socket.send(Ok(event.clone())));
        }
    }

    /// Ends every socket.
    pub fn break_sockets(&self) {
        self.lock().sockets.clear();
    }

    /// Restarts the backend: it forgets every prompt, and every socket ends.
    pub fn restart(&self) {
        let mut state = self.lock();
        state.prompts.clear();
        state.order.clear();
        state.sockets.clear();
    }

    /// Every submission that reached the backend, in order.
    pub fn submissions(&self) -> Vec<PromptSubmission> {
        self.lock().submissions.clone()
    }

    /// Waits until so many submissions have reached the backend.
    pub async fn wait_for_submissions(&self, count: usize) -> Vec<PromptSubmission> {
        wait_until(&format!("{count} submissions"), PATIENCE, async || {
            self.lock().submissions.len() >= count
        })
        .await;
        self.submissions()
    }

    /// Every prompt that was to be cancelled, in order.
    pub fn cancelled(&self) -> Vec<String> {
        self.lock().cancelled.clone()
    }

    /// How many sockets were opened so far.
    pub fn sockets_opened(&self) -> u64 {
        self.lock().sockets_opened
    }

    /// Makes the backend unreachable; sockets that are open stay so.
    pub fn outage(&self) -> &Outage {
        &self.outage
    }

    fn lock(&self) -> MutexGuard<'_, ComfyState> {
        self.state.lock().unwrap()
    }

    fn open(&self) -> Result<MutexGuard<'_, ComfyState>, ComfyError> {
        match self.outage.source() {
            Some(source) => Err(ComfyError::Unreachable(source)),
            None => Ok(self.lock()),
        }
    }
}

impl Default for ScriptedComfy {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ScriptedComfy {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ScriptedComfy")
            .finish_non_exhaustive()
    }
}

fn file_key(file: &BackendFile) -> (BackendFolderKey, String, String) {
    (
        file.folder.as_str(),
        file.subfolder.clone(),
        file.filename.clone(),
    )
}

impl ComfyState {
    /// Accepts a prompt under its id.
    fn take(&mut self, prompt_id: &str, client_id: &str, then: Then) {
        let prompt = Prompt {
            client_id: client_id.to_owned(),
            state: PromptState::Unknown,
            questions_left: 0,
            late: None,
        };
        self.prompts.insert(prompt_id.to_owned(), prompt);
        match then {
            Then::Ends(result) => {
                self.enter(prompt_id, PromptState::Running);
                self.enter(prompt_id, PromptState::Finished(result));
            }
            Then::EndsSilentlyAfter { questions, result } => {
                self.enter(prompt_id, PromptState::Running);
                if let Some(prompt) = self.prompts.get_mut(prompt_id) {
                    prompt.questions_left = questions;
                    prompt.late = Some(result);
                }
            }
            Then::Waits => self.enter(prompt_id, PromptState::Pending { ahead: 0 }),
            Then::Runs => self.enter(prompt_id, PromptState::Running),
            Then::Vanishes => self.enter(prompt_id, PromptState::Unknown),
        }
    }

    /// Moves a prompt and tells its socket.
    fn enter(&mut self, prompt_id: &str, prompt_state: PromptState) {
        self.order.retain(|id| id != prompt_id);
        let event = match prompt_state {
            PromptState::Unknown => {
                self.prompts.remove(prompt_id);
                return;
            }
            PromptState::Pending { .. } => None,
            PromptState::Running => Some(ComfyEvent::Started {
                prompt_id: prompt_id.to_owned(),
            }),
            PromptState::Finished(_) => Some(ComfyEvent::Ended {
                prompt_id: prompt_id.to_owned(),
            }),
        };
        if !matches!(prompt_state, PromptState::Finished(_)) {
            self.order.push(prompt_id.to_owned());
        }
        let prompt = self.prompts.entry(prompt_id.to_owned()).or_insert(Prompt {
            client_id: String::new(),
            state: PromptState::Running,
            questions_left: 0,
            late: None,
        });
        prompt.state = prompt_state;
        if let Some(event) = event
            && let Some(socket) = self.sockets.get(&prompt.client_id)
        {
            // The listener may be gone; the state is what counts.
            drop(socket.send(Ok(event)));
        }
    }

    /// A script for a submission that has none: one picture.
    fn plain_success(&mut self, submission: &PromptSubmission) -> PromptScript {
        let file = BackendFile {
            filename: format!("{}_00001_.png", submission.run_id),
            subfolder: String::new(),
            folder: BackendFolder::Output,
        };
        let stored = StoredFile {
            content_type: Some("image/png".to_owned()),
            bytes: Bytes::from_static(A_PIXEL),
        };
        self.files.insert(file_key(&file), stored);
        PromptScript::succeeds(vec![BackendOutput {
            node_id: "9".to_owned(),
            key: "images".to_owned(),
            content: BackendOutputContent::File(file),
        }])
    }
}

/// A PNG of one black pixel (signature, IHDR, IDAT, IEND).
const A_PIXEL: &[u8] = &[
    0x89, 0x50, 0x4E, 0x47, 0x0D, 0x0A, 0x1A, 0x0A, 0x00, 0x00, 0x00, 0x0D, 0x49, 0x48, 0x44, 0x52,
    0x00, 0x00, 0x00, 0x01, 0x00, 0x00, 0x00, 0x01, 0x08, 0x00, 0x00, 0x00, 0x00, 0x3A, 0x7E, 0x9B,
    0x55, 0x00, 0x00, 0x00, 0x0A, 0x49, 0x44, 0x41, 0x54, 0x78, 0xDA, 0x63, 0x60, 0x00, 0x00, 0x00,
    0x02, 0x00, 0x01, 0xE5, 0x27, 0xDE, 0xFC, 0x00, 0x00, 0x00, 0x00, 0x49, 0x45, 0x4E, 0x44, 0xAE,
    0x42, 0x60, 0x82,
];

fn lost() -> ComfyError {
    ComfyError::AnswerLost("the test lost the answer".into())
}

#[async_trait]
impl ComfyClient for ScriptedComfy {
    async fn submit(&self, submission: PromptSubmission) -> Result<SubmittedPrompt, ComfyError> {
        let mut state = self.open()?;
        let script = match state.scripts.pop_front() {
            Some(script) => script,
            None => state.plain_success(&submission),
        };
        let prompt_id = script
            .prompt_id
            .unwrap_or_else(|| submission.run_id.to_string());
        let client_id = submission.client_id.clone();
        match script.answer {
            SubmitAnswer::Taken { dropped } => {
                state.submissions.push(submission);
                state.take(&prompt_id, &client_id, script.then);
                Ok(SubmittedPrompt { prompt_id, dropped })
            }
            SubmitAnswer::TakenUnheard => {
                state.submissions.push(submission);
                state.take(&prompt_id, &client_id, script.then);
                Err(lost())
            }
            SubmitAnswer::LostUnseen => Err(lost()),
            SubmitAnswer::Unreachable => Err(ComfyError::Unreachable(
                "the test cut the connection".into(),
            )),
            SubmitAnswer::Rejected(rejection) => {
                state.submissions.push(submission);
                Err(ComfyError::Rejected(rejection))
            }
            SubmitAnswer::Unauthorized(status) => Err(ComfyError::Unauthorized { status }),
            SubmitAnswer::ServerError(status) => Err(ComfyError::ServerError { status }),
        }
    }

    async fn prompt_state(&self, prompt_id: &str) -> Result<PromptState, ComfyError> {
        let mut state = self.open()?;
        let Some(prompt) = state.prompts.get_mut(prompt_id) else {
            return Ok(PromptState::Unknown);
        };
        if prompt.late.is_some() && prompt.questions_left > 0 {
            prompt.questions_left -= 1;
        } else if let Some(result) = prompt.late.take() {
            prompt.state = PromptState::Finished(result);
            state.order.retain(|id| id != prompt_id);
        }
        let ahead = state.order.iter().position(|id| id == prompt_id);
        let answer = state.prompts.get(prompt_id).map(|prompt| &prompt.state);
        Ok(match answer {
            Some(PromptState::Pending { .. }) => PromptState::Pending {
                ahead: ahead
                    .and_then(|ahead| u32::try_from(ahead).ok())
                    .unwrap_or(0),
            },
            Some(other) => other.clone(),
            None => PromptState::Unknown,
        })
    }

    async fn cancel(&self, prompt_id: &str) -> Result<CancelOutcome, ComfyError> {
        let mut state = self.open()?;
        let found = state
            .prompts
            .get(prompt_id)
            .map(|prompt| prompt.state.clone());
        if state.cancel_unsupported && found == Some(PromptState::Running) {
            return Ok(CancelOutcome::Unsupported);
        }
        state.cancelled.push(prompt_id.to_owned());
        match found {
            Some(PromptState::Running) => {
                let result = PromptResult {
                    outcome: PromptOutcome::Interrupted,
                    outputs: Vec::new(),
                };
                if let Some(prompt) = state.prompts.get_mut(prompt_id) {
                    prompt.late = None;
                }
                state.enter(prompt_id, PromptState::Finished(result));
            }
            Some(PromptState::Pending { .. }) => state.enter(prompt_id, PromptState::Unknown),
            Some(PromptState::Finished(_) | PromptState::Unknown) | None => {}
        }
        Ok(CancelOutcome::Requested)
    }

    async fn queue(&self) -> Result<BackendQueue, ComfyError> {
        let state = self.open()?;
        let runs = |id: &String| {
            let prompt = state.prompts.get(id);
            prompt.is_some_and(|prompt| prompt.state == PromptState::Running)
        };
        let (running, pending) = state.order.iter().cloned().partition(runs);
        Ok(BackendQueue { running, pending })
    }

    async fn lora_catalogue(&self) -> Result<LoraCatalogue, ComfyError> {
        Ok(self.open()?.catalogue.clone())
    }

    async fn connect_events(&self) -> Result<ComfyEvents, ComfyError> {
        let mut state = self.open()?;
        state.sockets_opened += 1;
        let client_id = format!("client-{}", state.sockets_opened);
        let (sender, receiver) = unbounded_channel();
        state.sockets.insert(client_id.clone(), sender);
        Ok(ComfyEvents {
            client_id,
            stream: stream::unfold(receiver, async |mut receiver| {
                Some((receiver.recv().await?, receiver))
            })
            .boxed(),
        })
    }

    async fn fetch_output(&self, file: &BackendFile) -> Result<OutputReader, ComfyError> {
        let state = self.open()?;
        let stored = state
            .files
            .get(&file_key(file))
            .cloned()
            .ok_or_else(|| ComfyError::NotFound(format!("file {}", file.filename)))?;
        Ok(OutputReader {
            content_type: stored.content_type,
            size_bytes: Some(stored.bytes.len() as u64),
            bytes: stream::iter([Ok(stored.bytes)]).boxed(),
        })
    }

    async fn information(&self) -> Result<BackendInformation, ComfyError> {
        Ok(BackendInformation {
            version: self.open()?.version.clone(),
        })
    }
}
