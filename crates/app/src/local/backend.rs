//! The ComfyUI of `atelier local`: a simulator, or one that was named.

use std::path::PathBuf;
use std::time::Duration;

use atelier_comfyui_sim::{Simulator, SimulatorOptions};
use futures_util::future::join_all;

use super::LocalError;
use crate::config::backend::{BackendConfig, ComfyuiCredentials};
use crate::config::comfyui::ComfyuiConfig;

/// The checkpoint that the simulator offers.
pub(super) const CHECKPOINT: &str = "sim-sd15.safetensors";
/// How long the ComfyUI that was named may take to say which checkpoints it has.
const ANSWER_WAIT: Duration = Duration::from_secs(30);

/// A simulated ComfyUI.
#[derive(Debug)]
pub(super) struct LocalBackend {
    simulator: Simulator,
    loras_dir: PathBuf,
}

impl LocalBackend {
    /// Starts it on a free port, with its files below `base_dir`.
    pub(super) async fn start(
        base_dir: PathBuf,
        loras_dir: Option<PathBuf>,
    ) -> Result<Self, LocalError> {
        let options = SimulatorOptions {
            loras_dir,
            checkpoints: vec![CHECKPOINT.to_owned()],
            ..SimulatorOptions::in_dir(base_dir)
        };
        let loras_dir = options.loras_dir();
        let simulator = Simulator::start(options)
            .await
            .map_err(LocalError::Simulator)?;
        Ok(Self {
            simulator,
            loras_dir,
        })
    }

    pub(super) fn url(&self) -> String {
        self.simulator.url()
    }

    pub(super) fn loras_dir(&self) -> PathBuf {
        self.loras_dir.clone()
    }

    pub(super) async fn stop(self) {
        self.simulator.stop().await;
    }
}

/// The checkpoint to sample with on the ComfyUI that was named: the simulator's, or the first.
///
/// Of several, only those that answer count, and each of them must have it: any may get the job.
pub(super) async fn first_checkpoint(comfyui: &ComfyuiConfig) -> Result<String, LocalError> {
    let answers = join_all(comfyui.backends.iter().map(checkpoints)).await;
    let mut failure = None;
    let mut common: Option<Vec<String>> = None;
    for answer in answers {
        match (answer, &mut common) {
            (Ok(names), None) => common = Some(names),
            (Ok(names), Some(common)) => common.retain(|name| names.contains(name)),
            (Err(error), _) => failure = Some(error),
        }
    }
    match (common, failure) {
        (None, Some(failure)) => Err(failure),
        (None, None) => Err(LocalError::NoCheckpoint),
        (Some(names), _) => names
            .iter()
            .find(|name| *name == CHECKPOINT)
            .or_else(|| names.first())
            .cloned()
            .ok_or(LocalError::NoCheckpoint),
    }
}

async fn checkpoints(backend: &BackendConfig) -> Result<Vec<String>, LocalError> {
    let url = &backend.url;
    let cannot = |reason: String| LocalError::Comfyui {
        url: url.clone(),
        reason,
    };
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .timeout(ANSWER_WAIT)
        .build()
        .map_err(|error| cannot(error.to_string()))?;
    let request = client.get(format!("{}/models/checkpoints", url.trim_end_matches('/')));
    let request = match &backend.credentials {
        ComfyuiCredentials::None => request,
        ComfyuiCredentials::Basic { user, password } => {
            request.basic_auth(user, Some(password.expose()))
        }
        ComfyuiCredentials::Bearer(token) => request.bearer_auth(token.expose()),
    };
    let response = request
        .send()
        .await
        .map_err(|error| cannot(error.without_url().to_string()))?;
    let status = response.status();
    if !status.is_success() {
        return Err(cannot(format!("it answers {status}")));
    }
    response
        .json()
        .await
        .map_err(|_unreadable| cannot("its answer is not ComfyUI's".to_owned()))
}
