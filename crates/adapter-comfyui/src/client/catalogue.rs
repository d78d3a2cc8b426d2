use std::collections::{BTreeMap, BTreeSet};

use atelier_domain::ports::{ComfyError, LoraCatalogue};
use reqwest::StatusCode;
use serde_json::{Map, Value};

use super::backend::Backend;
use super::offered::offered;

/// The only kind of file of which ComfyUI reads the metadata.
const EXTENSION: &str = ".safetensors";

/// The longest value that is taken: pictures and lists of training files are
/// not what anybody asks a checkpoint for.
const MAX_VALUE_BYTES: usize = 64 * 1024;
const MAX_VALUES: usize = 1_000;

impl Backend {
    pub(crate) async fn lora_catalogue(&self) -> Result<LoraCatalogue, ComfyError> {
        // Listed before and after: a file that comes in between stands in the options, too.
        let before = self.lora_files().await?;
        let answer = self
            .transport
            .get("/object_info", &["object_info"], self.transport.catalogue())
            .await?;
        let classes: Map<String, Value> = answer.json()?;
        let files = self.lora_files().await?;
        Ok(offered(&classes, files, &before))
    }

    async fn lora_files(&self) -> Result<BTreeSet<String>, ComfyError> {
        let answer = self
            .transport
            .get("/models/loras", &["models", "loras"], self.transport.long())
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(BTreeSet::new());
        }
        answer.json()
    }

    /// Asks what a checkpoint's header says; 404 is the answer for a file that
    /// says nothing, and for one that is not there
    /// (`reference/comfyui/PROTOCOL.md` section 2).
    pub(crate) async fn checkpoint_metadata(
        &self,
        checkpoint: &str,
    ) -> Result<BTreeMap<String, String>, ComfyError> {
        if !checkpoint.ends_with(EXTENSION) {
            return Ok(BTreeMap::new());
        }
        let mut url = self.transport.url(&["view_metadata", "checkpoints"]);
        url.query_pairs_mut().append_pair("filename", checkpoint);
        let answer = self
            .transport
            .get_url("/view_metadata", url, self.transport.ordinary())
            .await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(BTreeMap::new());
        }
        let metadata: Map<String, Value> = answer.json()?;
        let texts = metadata.into_iter().filter_map(|(key, value)| match value {
            Value::String(text) if key.len() + text.len() <= MAX_VALUE_BYTES => Some((key, text)),
            _ => None,
        });
        Ok(texts.take(MAX_VALUES).collect())
    }
}
