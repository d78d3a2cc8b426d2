//! The ComfyUI backends: those of a file, or one that variables tell of.
//!
//! - `ATELIER_CONFIG`: the file, for one backend or more; `./atelier.toml` if there is one and
//!   this is not set. Its format is told in `backends_file.rs` and in `docs/PRODUCTION.md`.
//!
//! Without a file:
//!
//! - `COMFYUI_URL`: where the one backend is; `http://comfyui:8188` if not set.
//! - `ATELIER_BACKEND_NAME`: what it is called in the table of runs; `comfyui` if not set. Where each
//!   ComfyUI has a worker of its own, each needs a name of its own, the same after every restart:
//!   after a crash, the next worker asks the backend of that name what became of its runs.
//! - `COMFYUI_WEB_USER` and `COMFYUI_WEB_PASSWORD`, or `COMFYUI_WEB_TOKEN`: Basic or Bearer
//!   credentials for a proxy in front of it. ComfyUI itself asks for none.
//! - `COMFYUI_LORAS_DIR`: its LoRA folder, as the worker sees it; `/basedir/models/loras` if not
//!   set.
//! - `ATELIER_MAX_IN_FLIGHT`: how many runs it is given at once. It works on one at a time; more
//!   keep it busy while others are prepared and brought home.
//! - `ATELIER_LORA_QUOTA_BYTES`: how many bytes our files in its LoRA folder may have; as many as fit
//!   if not set.
//! - `ATELIER_LORA_KEEP_FREE_BYTES`: how many bytes of that folder's disk are left free; 1 GiB if not
//!   set.
#![expect(clippy::doc_markdown, reason = "clap prints these texts as they stand")]

use std::path::{Path, PathBuf};

use super::backend::{
    BackendConfig, DEFAULT_IN_FLIGHT, DEFAULT_KEEP_FREE_BYTES, GivenCredentials, MOST_IN_FLIGHT,
    NAME_RULE, Setting, is_backend_name, web_address,
};
use super::secret_files::find_secret;
use super::{Mistakes, backends_file, is_secret_given, or_variables};

/// What the one backend of the variables is called in the table of runs, unless somebody says.
const ONLY_BACKEND: &str = "comfyui";

const DEFAULT_FILE: &str = "atelier.toml";
const DEFAULT_URL: &str = "http://comfyui:8188";
const DEFAULT_LORAS_DIR: &str = "/basedir/models/loras";

const FILE: &str = "ATELIER_CONFIG";
const URL: &str = "COMFYUI_URL";
const NAME: &str = "ATELIER_BACKEND_NAME";
const PASSWORD: &str = "COMFYUI_WEB_PASSWORD";
const TOKEN: &str = "COMFYUI_WEB_TOKEN";
const USER: &str = "COMFYUI_WEB_USER";
const LORAS_DIR: &str = "COMFYUI_LORAS_DIR";
const IN_FLIGHT: &str = "ATELIER_MAX_IN_FLIGHT";
const QUOTA: &str = "ATELIER_LORA_QUOTA_BYTES";
const KEEP_FREE: &str = "ATELIER_LORA_KEEP_FREE_BYTES";

/// How ComfyUI is told.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct ComfyuiArguments {
    /// A file that names the ComfyUI backends, for more than one; see docs/PRODUCTION.md.
    ///
    /// Default: ./atelier.toml if there is one. It goes in place of all that tells of one ComfyUI:
    /// its address, its credentials, its LoRA folder and its number of runs at once.
    #[arg(long, env = FILE, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Where ComfyUI is.
    ///
    /// Default: http://comfyui:8188; `local` starts a simulator instead.
    #[arg(long, env = URL, value_name = "URL")]
    pub comfyui_url: Option<String>,
    /// What ComfyUI is called in the table of runs: as no other, and the same after every restart.
    ///
    /// Default: comfyui.
    #[arg(long, env = NAME, value_name = "NAME")]
    pub backend_name: Option<String>,
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
    #[arg(long = "loras-dir", env = LORAS_DIR, value_name = "FOLDER")]
    pub comfyui_loras_dir: Option<PathBuf>,
    /// How many runs ComfyUI is given at once.
    ///
    /// Default: 4.
    #[arg(long, env = IN_FLIGHT, value_name = "COUNT")]
    pub max_in_flight: Option<String>,
    /// How many bytes Atelier's files in the LoRA folder may have.
    ///
    /// Default: as many as fit. Those that nobody used for longest go first.
    #[arg(long, env = QUOTA, value_name = "BYTES")]
    pub lora_quota_bytes: Option<String>,
    /// How many bytes of the LoRA folder's disk are left free.
    ///
    /// Default: 1073741824, which is 1 GiB.
    #[arg(long, env = KEEP_FREE, value_name = "BYTES")]
    pub lora_keep_free_bytes: Option<String>,
}

/// Where the backends are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ComfyuiConfig {
    /// All of them: at least one, each with its own name and its own address.
    pub backends: Vec<BackendConfig>,
}

impl ComfyuiArguments {
    /// Whether anybody says where ComfyUI is: an address, or a file.
    pub(crate) fn is_told(&self) -> bool {
        self.given_url().is_some() || self.file().is_some()
    }

    /// Checks the arguments, and the file if there is one.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<ComfyuiConfig> {
        let backends = match self.file() {
            Some(file) => {
                self.refuse_beside(&file, mistakes);
                let variable = |name: &str| find_secret(None, &[name]);
                backends_file::read(&file, &variable, mistakes)?
            }
            None => vec![self.only_backend(mistakes)?],
        };
        Some(ComfyuiConfig { backends })
    }

    fn given_url(&self) -> Option<String> {
        or_variables(self.comfyui_url.clone(), &[])
    }

    /// The file, wherever it is: a path that leads nowhere is told when it is read.
    fn file(&self) -> Option<PathBuf> {
        self.config
            .clone()
            .filter(|path| !path.as_os_str().is_empty())
            .or_else(|| Some(PathBuf::from(DEFAULT_FILE)).filter(|path| path.exists()))
    }

    /// Refuses what tells of one backend beside a file that names them all: neither may win
    /// silently.
    fn refuse_beside(&self, file: &Path, mistakes: &mut Mistakes) {
        let file = file.display();
        if self.given_url().is_some() {
            mistakes.add(
                URL,
                format!("cannot be used together with the file {file}: drop one of the two"),
            );
        }
        let is_set = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let loras_dir = self.comfyui_loras_dir.as_ref();
        for (variable, is_set, keys) in [
            (NAME, is_set(&self.backend_name), "name"),
            (USER, is_set(&self.comfyui_web_user), "user"),
            (
                PASSWORD,
                is_secret_given(self.comfyui_web_password.as_ref(), &[PASSWORD]),
                "password_env or password",
            ),
            (
                TOKEN,
                is_secret_given(self.comfyui_web_token.as_ref(), &[TOKEN]),
                "token_env or token",
            ),
            (
                LORAS_DIR,
                loras_dir.is_some_and(|folder| !folder.as_os_str().is_empty()),
                "loras_dir",
            ),
            (IN_FLIGHT, is_set(&self.max_in_flight), "max_in_flight"),
            (QUOTA, is_set(&self.lora_quota_bytes), "lora_quota_bytes"),
            (
                KEEP_FREE,
                is_set(&self.lora_keep_free_bytes),
                "lora_keep_free_bytes",
            ),
        ] {
            if is_set {
                mistakes.add(
                    variable,
                    format!("is not used beside the file {file}: drop it, and set {keys} there"),
                );
            }
        }
    }

    fn only_backend(self, mistakes: &mut Mistakes) -> Option<BackendConfig> {
        let url = self.given_url().unwrap_or_else(|| DEFAULT_URL.to_owned());
        if let Err(detail) = web_address(&url) {
            mistakes.add(URL, detail);
        }
        let name = or_variables(self.backend_name, &[]).unwrap_or_else(|| ONLY_BACKEND.to_owned());
        if !is_backend_name(&name) {
            mistakes.add(NAME, NAME_RULE);
        }
        let max_in_flight = match or_variables(self.max_in_flight, &[]) {
            None => Some(DEFAULT_IN_FLIGHT),
            Some(text) => mistakes.parse(
                IN_FLIGHT,
                &text,
                &format!("a number from 1 to {MOST_IN_FLIGHT}"),
                |count| (1..=MOST_IN_FLIGHT).contains(count),
            ),
        };
        let quota_bytes = match or_variables(self.lora_quota_bytes, &[]) {
            None => Some(None),
            Some(text) => mistakes
                .parse(QUOTA, &text, "a number of bytes, from 1", |bytes: &u64| {
                    *bytes > 0
                })
                .map(Some),
        };
        let keep_free_bytes = match or_variables(self.lora_keep_free_bytes, &[]) {
            None => Some(DEFAULT_KEEP_FREE_BYTES),
            Some(text) => {
                mistakes.parse(KEEP_FREE, &text, "a number of bytes, from 0", |_any| true)
            }
        };
        let setting = |name: &'static str| Setting {
            name,
            place: name.to_owned(),
        };
        let given = GivenCredentials {
            user: or_variables(self.comfyui_web_user, &[]),
            password: mistakes
                .secret(self.comfyui_web_password, &[PASSWORD])
                .map(|secret| secret.expose().to_owned()),
            token: mistakes
                .secret(self.comfyui_web_token, &[TOKEN])
                .map(|secret| secret.expose().to_owned()),
            user_setting: setting(USER),
            password_setting: setting(PASSWORD),
            token_setting: setting(TOKEN),
        };
        let (credentials, credentials_place) = given.check(mistakes)?;
        Some(BackendConfig {
            name,
            url,
            credentials,
            loras_dir: self
                .comfyui_loras_dir
                .unwrap_or_else(|| DEFAULT_LORAS_DIR.into()),
            lora_quota_bytes: quota_bytes?,
            lora_keep_free_bytes: keep_free_bytes?,
            max_in_flight: max_in_flight?,
            url_place: URL.to_owned(),
            credentials_place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::backend::ComfyuiCredentials;
    use super::*;

    fn check(arguments: ComfyuiArguments) -> Result<Vec<BackendConfig>, String> {
        let mut mistakes = Mistakes::default();
        let config = arguments.check(&mut mistakes);
        mistakes
            .check(config)
            .map(|config| config.backends)
            .map_err(|all| all.to_string())
    }

    const TWO: &str = "[[backends]]\nname = \"a\"\nurl = \"http://a\"\nloras_dir = \"/a\"\n\
                       [[backends]]\nname = \"b\"\nurl = \"http://b\"\nloras_dir = \"/b\"\n";

    /// A file with that text, gone with the folder.
    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("there is room");
        let path = folder.path().join("backends.toml");
        std::fs::write(&path, text).expect("there is room");
        (folder, path)
    }

    #[test]
    fn variables_tell_of_one_backend() {
        let arguments = ComfyuiArguments {
            comfyui_url: Some("http://gpu:8188".to_owned()),
            ..ComfyuiArguments::default()
        };

        let expected = BackendConfig {
            name: "comfyui".to_owned(),
            url: "http://gpu:8188".to_owned(),
            credentials: ComfyuiCredentials::None,
            loras_dir: "/basedir/models/loras".into(),
            lora_quota_bytes: None,
            lora_keep_free_bytes: 1 << 30,
            max_in_flight: 4,
            url_place: "COMFYUI_URL".to_owned(),
            credentials_place: "COMFYUI_WEB_USER".to_owned(),
        };
        assert!(arguments.is_told());
        assert_eq!(check(arguments), Ok(vec![expected]));
    }

    #[test]
    fn nothing_tells_of_the_usual_one() {
        let arguments = ComfyuiArguments {
            config: Some(PathBuf::new()),
            comfyui_url: Some(String::new()),
            ..ComfyuiArguments::default()
        };

        assert!(!arguments.is_told());
        let backends = check(arguments).expect("nothing is wrong");
        assert_eq!(backends[0].url, "http://comfyui:8188");
    }

    #[test]
    fn the_one_backend_may_be_given_a_name() {
        let named = |name: &str| {
            check(ComfyuiArguments {
                backend_name: Some(name.to_owned()),
                ..ComfyuiArguments::default()
            })
        };

        let backends = named("comfyui-7").expect("nothing is wrong");
        assert_eq!(backends[0].name, "comfyui-7");
        assert_eq!(
            named("").expect("it counts as not set")[0].name,
            ONLY_BACKEND
        );
        for name in ["GPU", "-gpu", "gpu 7", &"g".repeat(65)] {
            let told = named(name).expect_err("it is no name");
            assert!(
                told.contains("\n  ATELIER_BACKEND_NAME: must be 1 to 64 of"),
                "{told}"
            );
        }
    }

    #[test]
    fn a_file_tells_of_all() {
        let (_folder, path) = file(TWO);
        let arguments = ComfyuiArguments {
            config: Some(path),
            ..ComfyuiArguments::default()
        };

        assert!(arguments.is_told());
        let backends = check(arguments).expect("nothing is wrong");
        let names: Vec<_> = backends
            .iter()
            .map(|backend| backend.name.as_str())
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn a_file_and_variables_together_are_refused_with_all_that_is_wrong_in_both() {
        let (_folder, path) = file(&TWO.replace("http://b", "b:8188"));
        let name = path.display().to_string();
        let text = |text: &str| Some(text.to_owned());
        let told = check(ComfyuiArguments {
            config: Some(path),
            comfyui_url: text("http://hunter2@gpu"),
            backend_name: text("gpu-1"),
            comfyui_web_user: text("hunter2"),
            comfyui_web_password: text("hunter2"),
            comfyui_web_token: text("hunter2"),
            comfyui_loras_dir: Some("/loras".into()),
            max_in_flight: text("1"),
            lora_quota_bytes: text("1"),
            lora_keep_free_bytes: text("1"),
        })
        .expect_err("neither wins");

        for expected in [
            format!("{URL}: cannot be used together with the file {name}: drop one of the two"),
            format!("{NAME}: is not used beside the file {name}: drop it, and set name there"),
            format!("{USER}: is not used beside the file {name}: drop it, and set user there"),
            format!("{PASSWORD}: is not used beside"),
            format!("{TOKEN}: is not used beside"),
            format!("{LORAS_DIR}: is not used beside"),
            format!("{IN_FLIGHT}: is not used beside"),
            format!("{QUOTA}: is not used beside"),
            format!("{KEEP_FREE}: is not used beside"),
            format!("{name}: backends[1].url (line 7): must begin with http://"),
        ] {
            assert!(
                told.contains(&format!("\n  {expected}")),
                "{expected}: {told}"
            );
        }
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn a_file_that_was_named_must_be_there() {
        let told = check(ComfyuiArguments {
            config: Some("/nowhere/atelier.toml".into()),
            ..ComfyuiArguments::default()
        })
        .expect_err("it is missing");

        assert!(
            told.contains("\n  /nowhere/atelier.toml: cannot be read: "),
            "{told}"
        );
    }
}
