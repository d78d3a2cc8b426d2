//! One ComfyUI backend, wherever it is told of.

use std::path::PathBuf;

use url::Url;

use super::{Mistakes, Secret};

/// How many runs a backend is given at once, unless somebody says.
pub(super) const DEFAULT_IN_FLIGHT: usize = 4;
/// The most runs that a backend may be given at once.
pub(super) const MOST_IN_FLIGHT: usize = 64;
/// What is left free of a LoRA folder's disk, unless somebody says: room for what ComfyUI writes there
/// while we copy.
pub(super) const DEFAULT_KEEP_FREE_BYTES: u64 = 1024 * 1024 * 1024;

/// The longest name of a backend, in bytes.
const MAX_NAME: usize = 64;
/// What a backend may be called, in words.
pub(super) const NAME_RULE: &str =
    "must be 1 to 64 of a-z, 0-9, `.`, `_` and `-`, and begin with a letter or digit";

/// Where a ComfyUI is, and what it is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackendConfig {
    /// What it is called. Runs remember it: who changes it loses sight of what it works on.
    pub name: String,
    /// Its address.
    pub url: String,
    /// What opens it.
    pub credentials: ComfyuiCredentials,
    /// Its LoRA folder, as it is mounted here.
    pub loras_dir: PathBuf,
    /// How many bytes our files in that folder may have; `None` for as many as fit.
    pub lora_quota_bytes: Option<u64>,
    /// How many bytes of that folder's disk are left free.
    pub lora_keep_free_bytes: u64,
    /// How many runs it is given at once.
    pub max_in_flight: usize,
    /// Where its address was told, for whoever must change it.
    pub url_place: String,
    /// Where its credentials were told, likewise.
    pub credentials_place: String,
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

/// A setting: what its reader calls it, and where it is or should be.
#[derive(Clone, Debug)]
pub(super) struct Setting {
    pub(super) name: &'static str,
    pub(super) place: String,
}

/// Credentials as they were given, and the settings that they were or would be given by.
pub(super) struct GivenCredentials {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) token: Option<String>,
    pub(super) user_setting: Setting,
    pub(super) password_setting: Setting,
    pub(super) token_setting: Setting,
}

impl GivenCredentials {
    /// The credentials, and where they were told.
    pub(super) fn check(self, mistakes: &mut Mistakes) -> Option<(ComfyuiCredentials, String)> {
        let (user, password, token) =
            (self.user_setting, self.password_setting, self.token_setting);
        match (self.user, self.password, self.token) {
            (None, None, None) => Some((ComfyuiCredentials::None, user.place)),
            (None, None, Some(text)) => {
                Some((ComfyuiCredentials::Bearer(Secret::new(text)), token.place))
            }
            (Some(name), Some(text), None) => {
                let password = Secret::new(text);
                let credentials = ComfyuiCredentials::Basic {
                    user: name,
                    password,
                };
                Some((credentials, user.place))
            }
            (Some(_), None, None) => {
                let detail = format!("is required where {} is set", user.name);
                mistakes.add(password.place, detail);
                None
            }
            (None, Some(_), None) => {
                let detail = format!("is required where {} is set", password.name);
                mistakes.add(user.place, detail);
                None
            }
            (_, _, Some(_)) => {
                let detail = format!("cannot be used together with {}", user.name);
                mistakes.add(token.place, detail);
                None
            }
        }
    }
}

/// Whether a backend may be called that ([`NAME_RULE`]).
pub(super) fn is_backend_name(text: &str) -> bool {
    text.len() <= MAX_NAME
        && text.starts_with(|first: char| first.is_ascii_lowercase() || first.is_ascii_digit())
        && text.chars().all(|character| {
            character.is_ascii_lowercase()
                || character.is_ascii_digit()
                || matches!(character, '.' | '_' | '-')
        })
}

/// Reads the address of a ComfyUI, or says what is wrong with it, without repeating it: it may hold
/// a password.
pub(super) fn web_address(text: &str) -> Result<Url, &'static str> {
    let url = Url::parse(text)
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or("must begin with http:// or https:// and name a host")?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must hold no user and no password: they are set on their own");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("must end with its path: no `?` and no `#`");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(user: bool, password: bool, token: bool) -> (Option<ComfyuiCredentials>, String) {
        let setting = |name| Setting {
            name,
            place: format!("the place of {name}"),
        };
        let given = GivenCredentials {
            user: user.then(|| "somebody".to_owned()),
            password: password.then(|| "hunter2".to_owned()),
            token: token.then(|| "hunter3".to_owned()),
            user_setting: setting("USER"),
            password_setting: setting("PASSWORD"),
            token_setting: setting("TOKEN"),
        };
        let mut mistakes = Mistakes::default();
        let credentials = given
            .check(&mut mistakes)
            .map(|(credentials, _)| credentials);
        let told = mistakes.check(credentials.clone());
        (
            credentials,
            told.err().map_or_else(String::new, |all| all.to_string()),
        )
    }

    #[test]
    fn credentials_are_none_or_basic_or_bearer() {
        let basic = ComfyuiCredentials::Basic {
            user: "somebody".to_owned(),
            password: Secret::new("hunter2"),
        };
        let bearer = ComfyuiCredentials::Bearer(Secret::new("hunter3"));

        assert_eq!(
            told(false, false, false),
            (Some(ComfyuiCredentials::None), String::new())
        );
        assert_eq!(told(true, true, false), (Some(basic), String::new()));
        assert_eq!(told(false, false, true), (Some(bearer), String::new()));
    }

    #[test]
    fn half_of_some_or_both_of_them_are_a_mistake() {
        for (user, password, token, expected) in [
            (
                true,
                false,
                false,
                "the place of PASSWORD: is required where USER is set",
            ),
            (
                false,
                true,
                false,
                "the place of USER: is required where PASSWORD is set",
            ),
            (
                true,
                true,
                true,
                "the place of TOKEN: cannot be used together with USER",
            ),
            (
                true,
                false,
                true,
                "the place of TOKEN: cannot be used together with USER",
            ),
            (
                false,
                true,
                true,
                "the place of TOKEN: cannot be used together with USER",
            ),
        ] {
            let (credentials, told) = told(user, password, token);

            assert_eq!(credentials, None);
            assert!(told.ends_with(&format!("\n  {expected}")), "{told}");
            assert!(!told.contains("hunter"), "{told}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let (credentials, _) = told(true, true, false);

        assert!(!format!("{credentials:?}").contains("hunter"));
    }

    #[test]
    fn an_address_is_one_of_a_web_server_and_nothing_else() {
        for fine in [
            "http://comfyui:8188",
            "HTTP://10.0.0.5:8188/",
            "https://gpu.example/comfy",
        ] {
            assert!(web_address(fine).is_ok(), "{fine}");
        }
        for (wrong, expected) in [
            ("", "must begin with http://"),
            ("comfyui:8188", "must begin with http://"),
            ("ws://comfyui", "must begin with http://"),
            ("http://", "must begin with http://"),
            ("http://somebody@comfyui", "must hold no user"),
            ("http://:hunter2@comfyui", "must hold no user"),
            ("http://comfyui?token=hunter2", "must end with its path"),
            ("http://comfyui/#x", "must end with its path"),
        ] {
            let told = web_address(wrong).expect_err(wrong);

            assert!(told.starts_with(expected), "{wrong}: {told}");
        }
    }
}
