//! One server process: everything that a restart loses.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use uuid::Uuid;

use crate::events::{Audience, Publisher, Sockets, text_frame};
use crate::faults::FaultsHandle;
use crate::models::Models;
use crate::nodes::{Catalogue, Choices};
use crate::options::SimulatorOptions;
use crate::picture::{Digest, digest};
use crate::queue::{PromptQueue, QueueItem, Tie};
use crate::tally::Tally;

/// The state of one server process.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) options: Arc<SimulatorOptions>,
    pub(crate) faults: FaultsHandle,
    pub(crate) tally: Arc<Tally>,
    pub(crate) catalogue: Catalogue,
    pub(crate) models: Models,
    pub(crate) queue: PromptQueue,
    pub(crate) sockets: Arc<Sockets>,
    pub(crate) publisher: Publisher,
    /// The five letters in the names of this process's preview files.
    pub(crate) temp_suffix: String,
    number: AtomicI64,
    requests: AtomicU64,
    minted: AtomicU64,
    loras: Mutex<HashMap<PathBuf, Digest>>,
    free_requested: AtomicBool,
    running: Mutex<Running>,
}

/// What a client that connects in the middle of its prompt is told.
#[derive(Debug, Default)]
struct Running {
    client_id: Option<String>,
    node: Option<String>,
}

impl Instance {
    /// A fresh process; must be called inside a runtime, which then runs the publish loop.
    pub(crate) fn new(
        options: Arc<SimulatorOptions>,
        faults: FaultsHandle,
        tally: Arc<Tally>,
    ) -> Self {
        let sockets = Arc::new(Sockets::default());
        let publisher = Publisher::start(Arc::clone(&sockets), &faults);
        let started = digest([b"process".as_slice(), &now_ns().to_le_bytes()]);
        Self {
            catalogue: Catalogue::new(options.version),
            models: Models::new(&options),
            options,
            faults,
            tally,
            queue: PromptQueue::default(),
            sockets,
            publisher,
            temp_suffix: started
                .iter()
                .take(5)
                .map(|byte| char::from(b'a' + byte % 26))
                .collect(),
            number: AtomicI64::new(0),
            requests: AtomicU64::new(0),
            minted: AtomicU64::new(0),
            loras: Mutex::default(),
            free_requested: AtomicBool::new(false),
            running: Mutex::default(),
        }
    }

    /// The next priority number.
    pub(crate) fn next_number(&self) -> i64 {
        self.number.fetch_add(1, Ordering::Relaxed)
    }

    /// The number of this request.
    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    /// Queues a prompt and tells every socket, in this order: the executor cannot be faster than the news.
    pub(crate) fn enqueue(&self, item: QueueItem) -> Result<(), Tie> {
        self.queue
            .put(item, |remaining| self.publish_remaining(remaining))
    }

    /// An identifier that no other one is equal to.
    pub(crate) fn mint_uuid(&self) -> Uuid {
        let count = self.minted.fetch_add(1, Ordering::Relaxed);
        let bytes = digest([
            b"uuid".as_slice(),
            self.temp_suffix.as_bytes(),
            &now_ns().to_le_bytes(),
            &count.to_le_bytes(),
        ]);
        uuid::Builder::from_random_bytes(bytes.first_chunk::<16>().copied().unwrap_or_default())
            .into_uuid()
    }

    /// The data of a `status` event.
    pub(crate) fn status(&self) -> Value {
        status(self.queue.remaining())
    }

    /// Tells every socket how long the queue is.
    pub(crate) fn publish_status(&self) {
        self.publish_remaining(self.queue.remaining());
    }

    fn publish_remaining(&self, remaining: usize) {
        self.publisher.send(
            Audience::Everybody,
            text_frame("status", &status(remaining)),
        );
    }

    /// What `GET /features` answers.
    pub(crate) fn features(&self) -> Value {
        let max_upload_size = self.options.max_upload_bytes;
        if self.options.version.is_current() {
            json!({
                "supports_preview_metadata": true,
                "supports_model_type_tags": true,
                "max_upload_size": max_upload_size,
                "extension": {"manager": {"supports_v4": true}},
                "node_replacements": true,
                "assets": false,
            })
        } else {
            json!({"supports_preview_metadata": true, "max_upload_size": max_upload_size})
        }
    }

    /// The options of a choice, at this moment.
    pub(crate) fn choices(&self, source: Choices) -> Vec<String> {
        match source {
            Choices::Fixed(options) => owned(options.iter()),
            Choices::Growing(options, only_current) => {
                let current = self.options.version.is_current();
                owned(
                    options
                        .iter()
                        .filter(|option| current || !only_current.contains(*option)),
                )
            }
            Choices::Folder(folder) => self.models.list(folder).unwrap_or_default(),
            Choices::FolderOrNone(folder) => {
                let mut options = self.models.list(folder).unwrap_or_default();
                options.push("[None]".to_owned());
                options
            }
            Choices::InputFiles => input_pictures(&self.options.base_dir.join("input")),
        }
    }

    pub(crate) fn set_running_client(&self, client_id: Option<String>) {
        *self.lock_running() = Running {
            client_id,
            node: None,
        };
    }

    pub(crate) fn set_running_node(&self, node: Option<String>) {
        self.lock_running().node = node;
    }

    /// The node that runs right now, if its prompt belongs to this client.
    pub(crate) fn node_running_for(&self, client_id: &str) -> Option<String> {
        let running = self.lock_running();
        if running.client_id.as_deref() == Some(client_id) {
            running.node.clone()
        } else {
            None
        }
    }

    /// The content of a LoRA as it was when it was first loaded.
    pub(crate) fn loaded_lora(&self, path: &Path) -> Option<Digest> {
        self.loras
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(path)
            .copied()
    }

    pub(crate) fn keep_lora(&self, path: PathBuf, content: Digest) {
        self.loras
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(path, content);
    }

    pub(crate) fn forget_loras(&self) {
        self.loras
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clear();
    }

    /// Has the executor free its memory before the next prompt.
    pub(crate) fn request_free(&self) {
        self.free_requested.store(true, Ordering::Release);
    }

    pub(crate) fn take_free_request(&self) -> bool {
        self.free_requested.swap(false, Ordering::AcqRel)
    }

    fn lock_running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn status(remaining: usize) -> Value {
    json!({"status": {"exec_info": {"queue_remaining": remaining}}})
}

fn owned<'text>(options: impl Iterator<Item = &'text &'text str>) -> Vec<String> {
    options.map(|option| (*option).to_owned()).collect()
}

/// The picture files directly in a folder, sorted.
fn input_pictures(folder: &Path) -> Vec<String> {
    const EXTENSIONS: [&str; 7] = ["png", "jpg", "jpeg", "webp", "gif", "bmp", "tiff"];
    let is_picture = |path: &Path| {
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default();
        path.is_file()
            && EXTENSIONS
                .iter()
                .any(|known| extension.eq_ignore_ascii_case(known))
    };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries
        .filter(|entry| is_picture(&entry.path()))
        .filter_map(|entry| entry.file_name().into_string().ok())
        .collect();
    names.sort();
    names
}

/// Milliseconds since 1970, as in every time stamp of the protocol.
pub(crate) fn now_ms() -> u64 {
    let elapsed = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
}

fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_nanos()
}
