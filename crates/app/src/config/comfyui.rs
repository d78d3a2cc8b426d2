//! The ComfyUI backend.
//!
//! - `COMFYUI_URL`: where it is; `http://comfyui:8188` if not set.
//! - `COMFYUI_WEB_USER` and `COMFYUI_WEB_PASSWORD`, or `COMFYUI_WEB_TOKEN`: Basic or Bearer
//!   credentials for a proxy in front of it. ComfyUI itself asks for none.
//! - `COMFYUI_LORAS_DIR`: its LoRA folder, as the worker sees it; `/basedir/models/loras` if not
//!   set.
//! - `ATELIER_MAX_IN_FLIGHT`: how many runs it is given at once. It works on one at a time; more
//!   keep it busy while others are prepared and brought home.
#![expect(clippy::doc_markdown, reason = "clap prints these texts as they stand")]

use std::path::PathBuf;

use super::{Mistakes, Secret, or_variables};

const DEFAULT_URL: &str = "http://comfyui:8188";
const DEFAULT_IN_FLIGHT: usize = 4;
const DEFAULT_LORAS_DIR: &str = "/basedir/models/loras";

const URL: &str = "COMFYUI_URL";
const PASSWORD: &str = "COMFYUI_WEB_PASSWORD";
const TOKEN: &str = "COMFYUI_WEB_TOKEN";
const USER: &str = "COMFYUI_WEB_USER";
const IN_FLIGHT: &str = "ATELIER_MAX_IN_FLIGHT";

/// How ComfyUI is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ComfyuiArguments {
    /// Where ComfyUI is.
    ///
    /// Default: http://comfyui:8188; `local` starts a simulator instead.
    #[arg(long, env = URL, value_name = "URL")]
    pub comfyui_url: Option<String>,
    /// The user that a proxy in front of ComfyUI wants.
    #[arg(long, env = USER, value_name = "USER")]
    pub comfyui_web_user: Option<String>,
    /// That user's password.
    #[arg(long, env = PASSWORD, hide_env_values = true, value_name = "PASSWORD")]
    pub comfyui_web_password: Option<String>,
    /// The Bearer token that a proxy in front of ComfyUI wants.
    #[arg(long, env = TOKEN, hide_env_values = true, value_name = "TOKEN")]
    pub comfyui_web_token: Option<String>,
    /// ComfyUI's LoRA folder, as it is mounted here.
    ///
    /// Default: /basedir/models/loras; that of the simulator for `local`.
    #[arg(long = "loras-dir", env = "COMFYUI_LORAS_DIR", value_name = "FOLDER")]
    pub comfyui_loras_dir: Option<PathBuf>,
    /// How many runs ComfyUI is given at once.
    ///
    /// Default: 4.
    #[arg(long, env = IN_FLIGHT, value_name = "COUNT")]
    pub max_in_flight: Option<String>,
}

/// What a proxy in front of ComfyUI wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ComfyuiCredentials {
    /// Nothing.
    None,
    /// `Authorization: Basic`.
    Basic {
        /// The user.
        user: String,
        /// The password.
        password: Secret,
    },
    /// `Authorization: Bearer`.
    Bearer(Secret),
}

/// Where ComfyUI is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComfyuiConfig {
    /// Its address.
    pub url: String,
    /// What opens it.
    pub credentials: ComfyuiCredentials,
    /// Its LoRA folder.
    pub loras_dir: PathBuf,
    /// How many runs it is given at once.
    pub max_in_flight: usize,
}

impl ComfyuiArguments {
    /// The address, if it is given.
    pub(crate) fn given_url(&self) -> Option<String> {
        or_variables(self.comfyui_url.clone(), &[])
    }

    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<ComfyuiConfig> {
        let url = self.given_url().unwrap_or_else(|| DEFAULT_URL.to_owned());
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            mistakes.add(URL, "must begin with http:// or https://");
        }
        let max_in_flight = match or_variables(self.max_in_flight, &[]) {
            None => Some(DEFAULT_IN_FLIGHT),
            Some(text) => mistakes.parse(IN_FLIGHT, &text, "a number from 1 to 64", |count| {
                (1..=64).contains(count)
            }),
        };
        let user = or_variables(self.comfyui_web_user, &[]);
        let password = or_variables(self.comfyui_web_password, &[]);
        let token = or_variables(self.comfyui_web_token, &[]);
        let credentials = match (user, password, token) {
            (None, None, None) => ComfyuiCredentials::None,
            (None, None, Some(token)) => ComfyuiCredentials::Bearer(Secret::new(token)),
            (Some(user), Some(password), None) => ComfyuiCredentials::Basic {
                user,
                password: Secret::new(password),
            },
            (Some(_), None, None) => {
                mistakes.add(PASSWORD, format!("is required where {USER} is set"));
                return None;
            }
            (None, Some(_), None) => {
                mistakes.add(USER, format!("is required where {PASSWORD} is set"));
                return None;
            }
            (_, _, Some(_)) => {
                mistakes.add(TOKEN, format!("cannot be used together with {USER}"));
                return None;
            }
        };
        Some(ComfyuiConfig {
            url,
            credentials,
            loras_dir: self
                .comfyui_loras_dir
                .unwrap_or_else(|| DEFAULT_LORAS_DIR.into()),
            max_in_flight: max_in_flight?,
        })
    }
}
