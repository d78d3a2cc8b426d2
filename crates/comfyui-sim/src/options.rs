//! What a simulator can be told at its start.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::faults::Faults;

/// The checkpoint that is offered without a file behind it unless the options say otherwise.
pub(crate) const VIRTUAL_CHECKPOINT: &str = "sim-sd15.safetensors";

/// Which server to imitate. The differences are those of `reference/comfyui/PROTOCOL.md` section 12.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Version {
    /// `ComfyUI` 0.3.64 of October 2025: no jobs API, any string is a prompt id, previews only by start flag.
    V0_3_64,
    /// `ComfyUI` 0.33.0 of August 2026: jobs API, canonical UUIDs only, previews on request.
    #[default]
    V0_33_0,
}

impl Version {
    /// The version as `GET /system_stats` reports it, for example `0.33.0`.
    pub fn number(self) -> &'static str {
        match self {
            Self::V0_3_64 => "0.3.64",
            Self::V0_33_0 => "0.33.0",
        }
    }

    /// Whether this is the 0.33 line with everything that came after 0.3.64.
    pub(crate) fn is_current(self) -> bool {
        self == Self::V0_33_0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.number())
    }
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "0.3.64" => Ok(Self::V0_3_64),
            "0.33.0" => Ok(Self::V0_33_0),
            other => Err(format!(
                "unknown version {other:?}: this simulator imitates 0.33.0 and 0.3.64"
            )),
        }
    }
}

/// What the pretended proxy in front of the server does with a request that has no right credentials
/// (`reference/comfyui/PROTOCOL.md` section 11).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Front {
    /// Redirect to a login page with 302, the WebSocket upgrade too.
    Redirect,
    /// Refuse with 401 and a `WWW-Authenticate` header.
    Unauthorized,
}

/// What opens the pretended proxy in front of the server. `Debug` never shows the secrets.
#[derive(Clone, Default, Eq, PartialEq)]
pub struct Credentials {
    /// Accepted as `Authorization: Basic base64(user:password)`.
    pub basic: Option<(String, String)>,
    /// Accepted as `Authorization: Bearer token` and as the query parameter `token`.
    pub token: Option<String>,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Credentials")
            .field("basic", &self.basic.as_ref().map(|_| "[hidden]"))
            .field("token", &self.token.as_ref().map(|_| "[hidden]"))
            .finish()
    }
}

/// The `--preview-method` flag of the real server: whether sampler steps send preview pictures.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum PreviewMethod {
    /// No previews, unless a prompt asks for them (only the current version listens to the prompt).
    #[default]
    None,
    /// A preview after every sampler step.
    Latent2Rgb,
}

/// Everything a [`Simulator`](crate::Simulator) can be told at its start.
#[derive(Clone, Debug)]
pub struct SimulatorOptions {
    /// Address to listen on; port 0 picks a free one.
    pub listen: String,
    /// The server to imitate.
    pub version: Version,
    /// Folder that holds `models/`, `output/`, `temp/` and `input/`; created where missing.
    pub base_dir: PathBuf,
    /// The LoRA folder, if it is not `base_dir/models/loras`.
    pub loras_dir: Option<PathBuf>,
    /// What a prompt costs besides its nodes. The real server takes 4 to 5 ms for the smallest prompt when it works off its
    /// queue (`reference/comfyui/PROTOCOL.md` section 13).
    pub prompt_delay: Duration,
    /// How long one sampler step takes. An interrupt takes effect at the end of a step.
    pub step_delay: Duration,
    /// How long loading a checkpoint takes. An interrupt waits for its end, as on the real server.
    pub load_delay: Duration,
    /// Checkpoints that are offered, and load, without a file behind them.
    pub checkpoints: Vec<String>,
    /// What opens the front. Setting this without a [`front`](Faults::front) in `faults` means a 401 front.
    pub credentials: Option<Credentials>,
    /// Largest request body in bytes (`--max-upload-size` of the real server, default 100 MiB).
    pub max_upload_bytes: u64,
    /// Whether sampler steps send preview pictures by default.
    pub preview_method: PreviewMethod,
    /// How long connections are refused during a restart.
    pub restart_downtime: Duration,
    /// What goes wrong from the start; see [`Simulator::faults`](crate::Simulator::faults) to change it later.
    pub faults: Faults,
    /// Whether the control routes (`POST /sim/faults`, `GET /sim/executions`, `POST /sim/restart`) exist.
    pub control: bool,
}

impl SimulatorOptions {
    /// The current version on a free loopback port, with its files below `base_dir`, one virtual checkpoint and no faults.
    pub fn in_dir(base_dir: impl Into<PathBuf>) -> Self {
        Self {
            listen: "127.0.0.1:0".to_owned(),
            version: Version::default(),
            base_dir: base_dir.into(),
            loras_dir: None,
            prompt_delay: Duration::ZERO,
            step_delay: Duration::ZERO,
            load_delay: Duration::ZERO,
            checkpoints: vec![VIRTUAL_CHECKPOINT.to_owned()],
            credentials: None,
            max_upload_bytes: 100 * 1024 * 1024,
            preview_method: PreviewMethod::default(),
            restart_downtime: Duration::from_millis(50),
            faults: Faults::default(),
            control: false,
        }
    }

    /// The LoRA folder that is in use.
    pub fn loras_dir(&self) -> PathBuf {
        self.loras_dir
            .clone()
            .unwrap_or_else(|| self.base_dir.join("models").join("loras"))
    }
}
