//! What everything that works on runs needs: database, object store, backends, where LoRAs come from, and the worker.

use atelier_domain::graph::NodePolicy;

use super::Mistakes;
use super::blob::{BlobArguments, BlobConfig};
use super::comfyui::{ComfyuiArguments, ComfyuiConfig};
use super::database::{DatabaseArguments, DatabaseConfig};
use super::drive::{DriveArguments, DriveConfig};
use super::loras::{LoraArguments, LoraConfig};
use super::nodes::NodeArguments;
use super::observation::{MetricsArguments, MetricsConfig};
use super::shutdown::{ShutdownArguments, ShutdownConfig};
use super::worker::{WorkerArguments, WorkerConfig};

/// How a worker's surroundings are told.
#[derive(Clone, Debug, clap::Args)]
pub struct WorkArguments {
    /// The database.
    #[command(flatten)]
    pub database: DatabaseArguments,
    /// The object store.
    #[command(flatten)]
    pub blob: BlobArguments,
    /// The backends.
    #[command(flatten)]
    pub comfyui: ComfyuiArguments,
    /// LoRAs, wherever their bytes come from.
    #[command(flatten)]
    pub loras: LoraArguments,
    /// Which nodes graphs may use.
    #[command(flatten)]
    pub nodes: NodeArguments,
    /// Google Drive.
    #[command(flatten)]
    pub drive: DriveArguments,
    /// The worker itself.
    #[command(flatten)]
    pub worker: WorkerArguments,
    /// The end of the process.
    #[command(flatten)]
    pub shutdown: ShutdownArguments,
    /// Who may read measurements.
    #[command(flatten)]
    pub metrics: MetricsArguments,
}

/// What a worker needs.
#[derive(Clone, Debug)]
pub struct WorkConfig {
    /// The database.
    pub database: DatabaseConfig,
    /// The object store.
    pub blob: BlobConfig,
    /// The backends.
    pub comfyui: ComfyuiConfig,
    /// LoRAs, wherever their bytes come from.
    pub loras: LoraConfig,
    /// Which nodes graphs may use.
    pub nodes: NodePolicy,
    /// Google Drive.
    pub drive: DriveConfig,
    /// The worker itself.
    pub worker: WorkerConfig,
    /// The end of the process.
    pub shutdown: ShutdownConfig,
    /// Who may read measurements.
    pub metrics: MetricsConfig,
}

impl WorkArguments {
    /// Checks the arguments, each concern even where another is wrong.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<WorkConfig> {
        let database = self.database.check(mistakes);
        let blob = self.blob.check(mistakes);
        let comfyui = self.comfyui.check(mistakes);
        let loras = self.loras.check(mistakes);
        let nodes = self.nodes.check(mistakes);
        let worker = self.worker.check(mistakes);
        let shutdown = self.shutdown.check(mistakes);
        let metrics = self.metrics.check(mistakes);
        let drive = self.drive.read(mistakes);
        Some(WorkConfig {
            database: database?,
            blob: blob?,
            comfyui: comfyui?,
            loras: loras?,
            nodes: nodes?,
            drive,
            worker: worker?,
            shutdown: shutdown?,
            metrics: metrics?,
        })
    }
}
