//! A whole Atelier of fakes.

mod depot;
mod observed;
mod queue;
mod told;

use std::sync::Arc;
use std::time::Duration;

use atelier_application::allowance::Allowance;
use atelier_application::catalogue::CatalogueCache;
use atelier_application::dispatch::{Backend, Worker, WorkerParts, WorkerSettings};
use atelier_application::inputs::{UploadInput, UploadInputError, UploadedInput};
use atelier_application::loras::{
    LoraDetails, ResumableUploads, UploadLimits, UploadLora, UploadLoraError, Uploaded,
};
use atelier_application::runs::{
    RetryRun, RunLimits, Submission, SubmitRequest, SubmitRun, SubmitRunError,
};
use atelier_application::sync::{LoraSync, LoraSyncParts};
use atelier_application::transfers::{RemoteSources, TransferSettings, Transferring};
use atelier_domain::actor::Actor;
use atelier_domain::graph::{GraphJson, NodePolicy, PromptGraph};
use atelier_domain::ids::{RunId, WorkflowId};
use atelier_domain::input::Input;
use atelier_domain::lora::Lora;
use atelier_domain::ports::{
    BlobStore, ClaimOutcome, ClaimedRun, Clock as _, ComfyClient, LoraCatalogue, RunQueue,
    RunRepo as _, WorkflowRepo as _, WriteOutcome,
};
use atelier_domain::run::Run;
use atelier_domain::usage::Quotas;
use atelier_domain::validation::Violation;
use atelier_domain::workflow::NewWorkflow;
use atelier_testkit::build::{a_workflow, an_actor, safetensors_bytes};
use atelier_testkit::{
    FakeRemote, FakeStore, InMemoryBlobs, InMemoryLoraFolder, InMemoryPreviews, ManualClock,
    ScriptedComfy, SequentialIds, wait_until,
};
use bytes::Bytes;
use serde_json::{Value, json};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub(crate) use depot::{Depot, Serving, new_upload};
pub(crate) use observed::Observed;
pub(crate) use queue::RecordingQueue;
pub(crate) use told::RecordingTransfers;

/// Longer than any test goes on, by the clock that jumps.
pub(crate) const LONG: Duration = Duration::from_hours(1);

/// What people may ask of the queue here.
pub(crate) const LIMITS: RunLimits = RunLimits {
    default_timeout: Duration::from_mins(10),
    max_timeout: Duration::from_mins(20),
    max_pending: 150,
};

/// The run of a submission that was not made before.
#[track_caller]
pub(crate) fn enqueued(submission: Submission) -> Run {
    match submission {
        Submission::Enqueued { run, .. } => *run,
        Submission::Replayed(answer) => panic!("it came before: {answer:?}"),
    }
}

/// The LoRA of an upload whose bytes were not there before.
#[track_caller]
pub(crate) fn new_lora(uploaded: Uploaded) -> Lora {
    match uploaded {
        Uploaded::New(lora) => *lora,
        Uploaded::Same(lora) => panic!("it was there before: {lora:?}"),
    }
}

pub(crate) struct House {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: FakeStore,
    pub(crate) blobs: InMemoryBlobs,
    pub(crate) folder: InMemoryLoraFolder,
    pub(crate) comfy: ScriptedComfy,
    pub(crate) previews: InMemoryPreviews,
    pub(crate) observed: Arc<Observed>,
    pub(crate) client: Arc<dyn ComfyClient>,
    pub(crate) catalogue: Arc<CatalogueCache>,
    pub(crate) ids: Arc<SequentialIds>,
    pub(crate) actor: Actor,
    /// Which nodes may be used, by now.
    pub(crate) policy: Arc<NodePolicy>,
}

impl House {
    pub(crate) fn new() -> Self {
        let clock = Arc::new(ManualClock::default());
        let comfy = ScriptedComfy::new();
        let client: Arc<dyn ComfyClient> = Arc::new(comfy.clone());
        Self {
            store: FakeStore::with_clock(Arc::clone(&clock) as _),
            blobs: InMemoryBlobs::new().with_clock(Arc::clone(&clock) as _),
            clock,
            folder: InMemoryLoraFolder::new(),
            catalogue: Arc::new(CatalogueCache::new(vec![(
                "main".to_owned(),
                Arc::clone(&client),
            )])),
            client,
            comfy,
            previews: InMemoryPreviews::new(),
            observed: Arc::default(),
            ids: Arc::new(SequentialIds::new()),
            actor: an_actor(),
            policy: Arc::new(NodePolicy::default()),
        }
    }

    pub(crate) fn offer(&self, files: &[&str]) {
        self.comfy.set_catalogue(LoraCatalogue {
            files: files.iter().map(|file| (*file).to_owned()).collect(),
            ..LoraCatalogue::default()
        });
    }

    /// As much as there is room for.
    pub(crate) fn allowance(&self) -> Allowance {
        Allowance {
            usage: Arc::new(self.store.usage()),
            quotas: Quotas::default(),
        }
    }

    pub(crate) fn uploads(&self) -> UploadLora {
        UploadLora {
            loras: Arc::new(self.store.loras()),
            blobs: Arc::new(self.blobs.clone()),
            clock: Arc::clone(&self.clock) as _,
            ids: Arc::clone(&self.ids) as _,
            max_bytes: 1024 * 1024,
            allowance: self.allowance(),
        }
    }

    pub(crate) fn resumable(&self) -> ResumableUploads {
        ResumableUploads {
            uploads: Arc::new(self.store.uploads()),
            loras: Arc::new(self.store.loras()),
            blobs: Arc::new(self.blobs.clone()),
            clock: Arc::clone(&self.clock) as _,
            ids: Arc::clone(&self.ids) as _,
            limits: UploadLimits::default(),
            allowance: self.allowance(),
            io: Handle::current(),
        }
    }

    pub(crate) fn input_uploads(&self) -> UploadInput {
        UploadInput {
            inputs: Arc::new(self.store.inputs()),
            blobs: Arc::new(self.blobs.clone()),
            clock: Arc::clone(&self.clock) as _,
            ids: Arc::clone(&self.ids) as _,
            max_bytes: 100_000,
            allowance: self.allowance(),
        }
    }

    /// A picture of the actor's; another `fill` is another content.
    pub(crate) async fn picture(&self, filename: &str, fill: u8) -> Input {
        match self.upload_picture(filename, png(fill)).await.unwrap() {
            UploadedInput::New(input) => *input,
            UploadedInput::Same(input) => panic!("it was there before: {input:?}"),
        }
    }

    pub(crate) async fn upload_picture(
        &self,
        filename: &str,
        bytes: Vec<u8>,
    ) -> Result<UploadedInput, UploadInputError> {
        let uploads = self.input_uploads();
        let mut upload = uploads.begin(self.actor.clone(), filename).await?;
        for piece in bytes.chunks(7) {
            upload.write(Bytes::copy_from_slice(piece)).await?;
        }
        upload.finish().await
    }

    pub(crate) fn submissions(&self) -> SubmitRun {
        SubmitRun {
            workflows: Arc::new(self.store.workflows()),
            loras: Arc::new(self.store.loras()),
            inputs: Arc::new(self.store.inputs()),
            policy: Arc::clone(&self.policy),
            runs: Arc::new(self.store.runs()),
            catalogue: Arc::clone(&self.catalogue),
            clock: Arc::clone(&self.clock) as _,
            ids: Arc::clone(&self.ids) as _,
            limits: LIMITS,
            allowance: self.allowance(),
        }
    }

    pub(crate) fn retries(&self) -> RetryRun {
        RetryRun {
            runs: Arc::new(self.store.runs()),
            loras: Arc::new(self.store.loras()),
            inputs: Arc::new(self.store.inputs()),
            policy: Arc::clone(&self.policy),
            catalogue: Arc::clone(&self.catalogue),
            clock: Arc::clone(&self.clock) as _,
            ids: Arc::clone(&self.ids) as _,
            limits: LIMITS,
            allowance: self.allowance(),
        }
    }

    /// A ready LoRA of the actor's; another `fill` is another content.
    pub(crate) async fn lora(&self, filename: &str, fill: u8) -> Lora {
        new_lora(self.upload(filename, fill, false).await.unwrap())
    }

    /// The same as the next version of what is there.
    pub(crate) async fn next_version(&self, filename: &str, fill: u8) -> Lora {
        new_lora(self.upload(filename, fill, true).await.unwrap())
    }

    /// Sends a file in one piece.
    pub(crate) async fn upload(
        &self,
        filename: &str,
        fill: u8,
        replaces: bool,
    ) -> Result<Uploaded, UploadLoraError> {
        let mut upload = self
            .uploads()
            .begin(self.actor.clone(), filename, None, replaces)
            .await?;
        upload.write(safetensors_bytes(fill)).await?;
        upload.finish(LoraDetails::default()).await
    }

    pub(crate) async fn workflow(&self, graph: &Value) -> WorkflowId {
        self.workflow_of(&self.actor, graph, false).await
    }

    pub(crate) async fn workflow_of(
        &self,
        owner: &Actor,
        graph: &Value,
        is_public: bool,
    ) -> WorkflowId {
        let new = NewWorkflow {
            workflow_json: GraphJson::from_trusted(graph.to_string()),
            is_public,
            ..a_workflow()
        };
        self.store.workflows().create(owner, new).await.unwrap().id
    }

    /// Puts a run of a graph into the queue as a person would.
    pub(crate) async fn submit(&self, graph: &Value) -> Result<Run, SubmitRunError> {
        let workflow = self.workflow(graph).await;
        self.submissions()
            .execute(&self.actor, workflow, SubmitRequest::default())
            .await
            .map(enqueued)
    }

    /// The violations of a graph that is refused.
    pub(crate) async fn refusal(&self, graph: &Value) -> Vec<Violation> {
        match self.submit(graph).await {
            Err(SubmitRunError::Invalid(violations)) => violations,
            other => panic!("not refused: {other:?}"),
        }
    }

    /// The graph that a worker would be given next.
    pub(crate) async fn queued_graph(&self) -> PromptGraph {
        self.claimed().await.graph.parse().unwrap()
    }

    /// The run that a worker is given next.
    pub(crate) async fn claimed(&self) -> ClaimedRun {
        let claim = atelier_testkit::build::a_claim("nobody");
        match self.store.queue().claim(claim).await.unwrap() {
            ClaimOutcome::Claimed(claimed) => *claimed,
            other => panic!("no run is given: {other:?}"),
        }
    }

    /// Ends the next run of the queue well.
    pub(crate) async fn complete_next(&self) -> RunId {
        let claimed = self.claimed().await;
        let queue = self.store.queue();
        queue
            .complete(claimed.run_id, claimed.token, Vec::new())
            .await
            .unwrap();
        claimed.run_id
    }

    /// Copies into a folder of backend `main`'s.
    pub(crate) fn sync(&self, folder: &InMemoryLoraFolder, blobs: Arc<dyn BlobStore>) -> LoraSync {
        LoraSync::new(LoraSyncParts {
            backend: "main".to_owned(),
            loras: Arc::new(self.store.loras()),
            copies: Arc::new(self.store.copies()),
            blobs,
            folder: Arc::new(folder.clone()),
            telemetry: Arc::clone(&self.observed) as _,
        })
    }

    pub(crate) fn worker_on(&self, queue: Arc<dyn RunQueue>) -> Worker {
        self.assemble(queue, vec![self.backend("main", Arc::clone(&self.client))])
    }

    /// A worker of several backends.
    pub(crate) fn worker_with(&self, backends: &[(&str, &ScriptedComfy)]) -> Worker {
        let backends = backends
            .iter()
            .map(|(name, comfy)| self.backend(name, Arc::new(ScriptedComfy::clone(comfy))))
            .collect();
        self.assemble(Arc::new(self.store.queue()), backends)
    }

    fn backend(&self, name: &str, client: Arc<dyn ComfyClient>) -> Backend {
        Backend {
            name: name.to_owned(),
            client,
            folder: Arc::new(self.folder.clone()),
            max_in_flight: 4,
        }
    }

    fn assemble(&self, queue: Arc<dyn RunQueue>, backends: Vec<Backend>) -> Worker {
        Worker::new(WorkerParts {
            queue,
            loras: Arc::new(self.store.loras()),
            inputs: Arc::new(self.store.inputs()),
            policy: Arc::clone(&self.policy),
            uploads: Arc::new(self.store.uploads()),
            copies: Arc::new(self.store.copies()),
            transferring: Arc::new(Transferring::new(
                Arc::new(self.store.transfers()),
                Arc::new(self.blobs.clone()),
                Arc::new(self.store.signals()),
                Arc::clone(&self.ids) as _,
                RemoteSources {
                    google_drive: Arc::new(FakeRemote::drive()),
                    web: Arc::new(FakeRemote::web()),
                },
                TransferSettings::default(),
            )),
            blobs: Arc::new(self.blobs.clone()),
            signals: Arc::new(self.store.signals()),
            previews: Arc::new(self.previews.clone()),
            catalogue: Arc::clone(&self.catalogue),
            telemetry: Arc::clone(&self.observed) as _,
            traces: Arc::clone(&self.observed) as _,
            clock: Arc::clone(&self.clock) as _,
            ids: Arc::clone(&self.ids) as _,
            backends,
            settings: WorkerSettings::default(),
        })
    }

    /// Starts a worker.
    pub(crate) fn start(&self) -> Running {
        Running::begin(self.worker_on(Arc::new(self.store.queue())))
    }

    pub(crate) async fn run(&self, id: RunId) -> Run {
        self.store
            .runs()
            .get(&self.actor, id)
            .await
            .unwrap()
            .unwrap()
    }

    pub(crate) async fn request_cancel(&self, id: RunId) {
        let at = self.clock.now();
        let asked = self.store.runs().request_cancel(&self.actor, id, at).await;
        assert!(matches!(asked, Ok(WriteOutcome::Done(_))), "{asked:?}");
    }

    /// Waits until a run is over.
    pub(crate) async fn ended(&self, id: RunId) -> Run {
        wait_until("the end of the run", LONG, async || {
            self.run(id).await.status.is_final()
        })
        .await;
        self.run(id).await
    }

    /// Runs a graph to its end on a worker.
    pub(crate) async fn execute(&self, graph: &Value) -> Run {
        let run = self.submit(graph).await.unwrap();
        let worker = self.start();
        let run = self.ended(run.id).await;
        worker.stop().await;
        run
    }
}

/// A worker at work.
pub(crate) struct Running {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    pub(crate) fn begin(worker: Worker) -> Self {
        let stop = watch::Sender::new(false);
        Self {
            task: tokio::spawn(worker.run(stop.subscribe())),
            stop,
        }
    }

    /// Stops it in good order.
    pub(crate) async fn stop(self) {
        self.stop.send_replace(true);
        self.task.await.unwrap();
    }

    /// Kills it.
    pub(crate) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// What looks like a PNG of 64 by 32 pixels.
pub(crate) fn png(fill: u8) -> Vec<u8> {
    let mut png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x40\0\0\0\x20\x08\x02\0\0\0".to_vec();
    png.extend([fill; 100]);
    png
}

/// A graph of one saved empty picture, with an input more.
pub(crate) fn plain_graph() -> Value {
    json!({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "SaveImage", "inputs": {"filename_prefix": "plain", "images": ["1", 0]}}
    })
}

/// The same with one more node, `7`.
pub(crate) fn graph_with(class_type: &str, inputs: &Value) -> Value {
    let mut graph = plain_graph();
    graph["7"] = json!({"class_type": class_type, "inputs": inputs});
    graph
}

/// The same with a `LoraLoader`, node `7`.
pub(crate) fn lora_graph(name: &str) -> Value {
    graph_with(
        "LoraLoader",
        &json!({"lora_name": name, "strength_model": 1.0, "strength_clip": 1.0}),
    )
}
