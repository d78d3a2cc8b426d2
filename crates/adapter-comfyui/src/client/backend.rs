use std::sync::atomic::{AtomicBool, Ordering};

use atelier_domain::ports::{BackendInformation, ComfyError};
use serde::Deserialize;

use crate::transport::Transport;

/// Bytes of a version that are worth telling.
const MAX_VERSION_CHARS: usize = 40;

/// Bytes that the name of a prompt may have: a UUID has 36.
const MAX_ID_BYTES: usize = 128;

/// One backend, and what was found out about it.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) transport: Transport,
    /// Holds until the backend may have been restarted, as another version.
    has_no_jobs_api: AtomicBool,
}

impl Backend {
    pub(crate) fn new(transport: Transport) -> Self {
        Self {
            transport,
            has_no_jobs_api: AtomicBool::default(),
        }
    }

    /// Forgets what was found out.
    pub(crate) fn forget(&self) {
        self.has_no_jobs_api.store(false, Ordering::Relaxed);
    }

    /// Forgets it after an error that may come from a restart.
    pub(crate) fn note<T>(&self, result: Result<T, ComfyError>) -> Result<T, ComfyError> {
        if matches!(
            result,
            Err(ComfyError::Unreachable(_) | ComfyError::AnswerLost(_))
        ) {
            self.forget();
        }
        result
    }

    pub(crate) fn may_have_jobs_api(&self) -> bool {
        !self.has_no_jobs_api.load(Ordering::Relaxed)
    }

    pub(crate) fn has_no_jobs_api(&self) {
        self.has_no_jobs_api.store(true, Ordering::Relaxed);
    }

    pub(crate) async fn information(&self) -> Result<BackendInformation, ComfyError> {
        #[derive(Deserialize)]
        struct Stats {
            system: System,
        }
        #[derive(Deserialize)]
        struct System {
            comfyui_version: Option<String>,
        }
        let answer = self
            .transport
            .get(
                "/system_stats",
                &["system_stats"],
                self.transport.ordinary(),
            )
            .await?;
        let version = answer
            .json::<Stats>()?
            .system
            .comfyui_version
            .unwrap_or_default();
        Ok(BackendInformation {
            version: version
                .chars()
                .filter(|c| !c.is_control())
                .take(MAX_VERSION_CHARS)
                .collect(),
        })
    }
}

/// A backend's name for a prompt, if it can stand in a path.
///
/// Ours are UUIDs; older backends may answer anything.
pub(crate) fn checked_id(prompt_id: &str) -> Result<&str, ComfyError> {
    let is_fine = (1..=MAX_ID_BYTES).contains(&prompt_id.len())
        && prompt_id
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_fine {
        Ok(prompt_id)
    } else {
        Err(ComfyError::Protocol(
            "the prompt id is none that a backend gives".to_owned(),
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_ids_get_into_paths() {
        assert!(checked_id("01234567-89ab-7def-8123-456789abcdef").is_ok());
        for id in ["", ".", "..", "a/b", "a?b", "a b", &"x".repeat(129)] {
            assert!(checked_id(id).is_err(), "{id}");
        }
    }
}
