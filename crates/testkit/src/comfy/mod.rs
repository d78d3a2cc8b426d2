mod client;
mod script;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};

use atelier_domain::input::InputPath;
use atelier_domain::output::{BackendFile, BackendFolder, BackendOutput, BackendOutputContent};
use atelier_domain::ports::{
    ComfyError, ComfyEvent, LoraCatalogue, PreviewImage, PromptState, PromptSubmission,
};
use bytes::Bytes;

pub use script::{PromptScript, SubmitAnswer, Then};
use state::{ComfyState, StoredFile, file_key};

use crate::{Outage, PATIENCE, wait_until};

/// A backend that does what the test says, and remembers what it was asked.
/// Clones share it.
///
/// Each submission takes the next [`PromptScript`]; without one it ends well
/// with one picture, which [`fetch_output`](atelier_domain::ports::ComfyClient::fetch_output) hands out.
#[derive(Clone)]
pub struct ScriptedComfy {
    state: Arc<Mutex<ComfyState>>,
    outage: Outage,
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

    /// Adds files to its LoRA folders.
    pub fn offer_loras<'a>(&self, files: impl IntoIterator<Item = &'a str>) {
        let files = files.into_iter().map(str::to_owned);
        self.lock().catalogue.files.extend(files);
    }

    /// Adds inputs whose options are the LoRA files, as `(class type, input)`;
    /// the backend then has these classes.
    pub fn offer_lora_inputs<'a>(&self, inputs: impl IntoIterator<Item = (&'a str, &'a str)>) {
        let catalogue = &mut self.lock().catalogue;
        for (class_type, input) in inputs {
            catalogue.classes.insert(class_type.to_owned());
            catalogue
                .inputs
                .insert((class_type.to_owned(), input.to_owned()));
        }
    }

    /// Adds classes of nodes.
    pub fn offer_classes<'a>(&self, classes: impl IntoIterator<Item = &'a str>) {
        let classes = classes.into_iter().map(str::to_owned);
        self.lock().catalogue.classes.extend(classes);
    }

    /// Adds model files to the options of an input; the backend then has that
    /// class.
    pub fn offer_models<'a>(
        &self,
        class_type: &str,
        input: &str,
        files: impl IntoIterator<Item = &'a str>,
    ) {
        let catalogue = &mut self.lock().catalogue;
        catalogue.classes.insert(class_type.to_owned());
        let key = (class_type.to_owned(), input.to_owned());
        let options = catalogue.models.entry(key).or_default();
        options.extend(files.into_iter().map(str::to_owned));
    }

    /// Says what a checkpoint file says of itself.
    pub fn set_checkpoint_metadata<'a>(
        &self,
        checkpoint: &str,
        metadata: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) {
        let metadata = metadata
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        self.lock()
            .checkpoint_metadata
            .insert(checkpoint.to_owned(), metadata);
    }

    /// Puts a file where [`fetch_output`](atelier_domain::ports::ComfyClient::fetch_output) finds it, and says how
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

    /// Puts a file where [`fetch_output`](atelier_domain::ports::ComfyClient::fetch_output) finds it.
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

    /// Sends every socket a preview of a prompt, from node `node_id`.
    pub fn push_preview(&self, prompt_id: &str, node_id: &str, image: PreviewImage) {
        self.push(&ComfyEvent::Preview {
            prompt_id: prompt_id.to_owned(),
            node_id: node_id.to_owned(),
            image,
        });
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

    /// What was put into its input folder, by path.
    pub fn inputs(&self) -> BTreeMap<InputPath, Bytes> {
        self.lock().inputs.clone()
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
