use std::collections::{BTreeMap, HashMap, VecDeque};

use atelier_domain::input::InputPath;
use atelier_domain::output::{BackendFile, BackendFolder, BackendOutput, BackendOutputContent};
use atelier_domain::ports::{
    ComfyError, ComfyEvent, LoraCatalogue, PromptResult, PromptState, PromptSubmission,
};
use bytes::Bytes;
use tokio::sync::mpsc::UnboundedSender;

use super::{PromptScript, Then};

/// What a backend has in its memory and on its disk.
#[derive(Default)]
pub(super) struct ComfyState {
    pub(super) scripts: VecDeque<PromptScript>,
    pub(super) submissions: Vec<PromptSubmission>,
    pub(super) prompts: HashMap<String, Prompt>,
    /// Prompts that wait or run, in the order of their submission.
    pub(super) order: Vec<String>,
    pub(super) cancelled: Vec<String>,
    pub(super) files: HashMap<FileKey, StoredFile>,
    /// What was put into its input folder, by path.
    pub(super) inputs: BTreeMap<InputPath, Bytes>,
    pub(super) catalogue: LoraCatalogue,
    pub(super) checkpoint_metadata: HashMap<String, BTreeMap<String, String>>,
    pub(super) version: String,
    pub(super) sockets: HashMap<String, UnboundedSender<Result<ComfyEvent, ComfyError>>>,
    pub(super) sockets_opened: u64,
}

/// Folder, subfolder and name.
pub(super) type FileKey = (&'static str, String, String);

#[derive(Clone)]
pub(super) struct StoredFile {
    pub(super) content_type: Option<String>,
    pub(super) bytes: Bytes,
}

pub(super) struct Prompt {
    /// Whose socket hears of it.
    pub(super) client_id: String,
    pub(super) state: PromptState,
    /// How often it is still said to run before `late` comes true.
    pub(super) questions_left: u32,
    pub(super) late: Option<PromptResult>,
}

pub(super) fn file_key(file: &BackendFile) -> FileKey {
    (
        file.folder.as_str(),
        file.subfolder.clone(),
        file.filename.clone(),
    )
}

impl ComfyState {
    /// Accepts a prompt under its id.
    pub(super) fn take(&mut self, prompt_id: &str, client_id: &str, then: Then) {
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
    pub(super) fn enter(&mut self, prompt_id: &str, prompt_state: PromptState) {
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
    pub(super) fn plain_success(&mut self, submission: &PromptSubmission) -> PromptScript {
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
