use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use atelier_domain::graph::NodePolicy;
use atelier_domain::ports::{
    BACKEND_REPORT_LIFETIME, BlobStore, Clock, ComfyClient, IdGen, InputRepo, LoraCopies,
    LoraFolder, LoraRepo, LoraUploads, RunPreviews, RunQueue, RunSignals, Telemetry,
};

use crate::catalogue::CatalogueCache;
use crate::observation::TraceContext;
use crate::opaque::opaque_debug;
use crate::transfers::Transferring;

/// One ComfyUI that a worker hands runs to.
#[derive(Clone)]
pub struct Backend {
    /// What it is called; runs remember it, so it must not change.
    pub name: String,
    /// How to talk to it.
    pub client: Arc<dyn ComfyClient>,
    /// Where its LoRAs lie.
    pub folder: Arc<dyn LoraFolder>,
    /// How many runs it is given at once. It works on one at a time; more keep
    /// its queue from running dry.
    pub max_in_flight: usize,
}

impl fmt::Debug for Backend {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Backend")
            .field("name", &self.name)
            .field("max_in_flight", &self.max_in_flight)
            .finish_non_exhaustive()
    }
}

/// What a worker is made of.
pub struct WorkerParts {
    /// Where runs come from.
    pub queue: Arc<dyn RunQueue>,
    /// Where LoRAs are looked up and forgotten.
    pub loras: Arc<dyn LoraRepo>,
    /// Where pictures are looked up and forgotten.
    pub inputs: Arc<dyn InputRepo>,
    /// Which nodes may be used, by now.
    pub policy: Arc<NodePolicy>,
    /// Uploads in pieces, to clean up behind.
    pub uploads: Arc<dyn LoraUploads>,
    /// Which backends have which LoRAs, and are to get them.
    pub copies: Arc<dyn LoraCopies>,
    /// Carries transfers of LoRAs out, beside the runs.
    pub transferring: Arc<Transferring>,
    /// Where LoRAs come from and outputs go.
    pub blobs: Arc<dyn BlobStore>,
    /// What wakes the worker.
    pub signals: Arc<dyn RunSignals>,
    /// Where previews go.
    pub previews: Arc<dyn RunPreviews>,
    /// Which LoRAs the backends offer; the worker keeps it fresh.
    pub catalogue: Arc<CatalogueCache>,
    /// Where measurements go.
    pub telemetry: Arc<dyn Telemetry>,
    /// Ties runs to the traces of the requests that asked for them.
    pub traces: Arc<dyn TraceContext>,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Makes claim tokens, and the chance that keeps workers out of step.
    pub ids: Arc<dyn IdGen>,
    /// The backends to serve.
    pub backends: Vec<Backend>,
    /// How.
    pub settings: WorkerSettings,
}

opaque_debug!(WorkerParts);

/// How a worker works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkerSettings {
    /// Names the worker process in the table of runs.
    pub worker: String,
    /// How long a claim holds without a heartbeat; a dead worker's run waits
    /// that long. Renewed after each third.
    pub lease: Duration,
    /// How often the queue is looked at when nothing is signalled.
    pub poll: Duration,
    /// How long a prompt may say nothing before its backend is asked.
    pub silence: Duration,
    /// How long a stopping worker goes on with runs that are storing outputs.
    pub grace: Duration,
    /// How long a backend or a store that does not answer is waited for before
    /// a run is given back; and how long a run that may be alive on a backend is
    /// kept for that one.
    pub patience: Duration,
    /// How long a run is left to a backend that suits it better.
    pub affinity: Duration,
    /// How many runs of one person may be under way at once; `None` for as many
    /// as there is room for.
    pub max_running: Option<u32>,
    /// How often the queue is told how the backends are.
    pub telling: Duration,
    /// How far apart two writes of a run's progress are, at least.
    pub progress: Duration,
    /// How soon a wish to cancel is noticed, at the latest, where signals work.
    pub cancel_notice: Duration,
    /// How often runs of dead workers are looked for.
    pub recovery: Duration,
    /// How often LoRAs that nothing needs are looked for.
    pub cleaning: Duration,
    /// How old an object must be that no row knows before it is deleted.
    pub orphan_age: Duration,
    /// How often such objects are looked for.
    pub orphans: Duration,
    /// How often backends are asked which LoRAs they offer.
    pub catalogue: Duration,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            worker: "worker".to_owned(),
            lease: Duration::from_secs(30),
            poll: Duration::from_secs(5),
            silence: Duration::from_secs(3),
            grace: Duration::from_secs(6),
            patience: Duration::from_mins(1),
            affinity: Duration::from_secs(2),
            max_running: None,
            telling: BACKEND_REPORT_LIFETIME / 3,
            progress: Duration::from_millis(500),
            cancel_notice: Duration::from_secs(1),
            recovery: Duration::from_secs(10),
            cleaning: Duration::from_mins(1),
            orphan_age: Duration::from_hours(7 * 24),
            orphans: Duration::from_hours(1),
            catalogue: Duration::from_mins(1),
        }
    }
}
