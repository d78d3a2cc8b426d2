//! The ComfyUI of `atelier local`: a simulator, or one that was named.

use std::path::PathBuf;
use std::time::Duration;

use atelier_comfyui_sim::{Simulator, SimulatorOptions};

use super::LocalError;
use crate::config::comfyui::{ComfyuiConfig, ComfyuiCredentials};

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

/// The checkpoint to sample with on a ComfyUI that was named: the simulator's, or the first.
pub(super) async fn first_checkpoint(comfyui: &ComfyuiConfig) -> Result<String, LocalError> {
    let url = &comfyui.url;
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
    let request = match &comfyui.credentials {
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
    let mut names: Vec<String> = response
        .json()
        .await
        .map_err(|_unreadable| cannot("its answer is not ComfyUI's".to_owned()))?;
    if names.iter().any(|name| name == CHECKPOINT) {
        return Ok(CHECKPOINT.to_owned());
    }
    if names.is_empty() {
        return Err(cannot(
            "it has no checkpoint; put a Stable Diffusion 1.5 one into its models/checkpoints"
                .to_owned(),
        ));
    }
    Ok(names.swap_remove(0))
}
