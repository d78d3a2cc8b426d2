use atelier_domain::ports::ComfyError;
use reqwest::StatusCode;
use serde_json::json;

use super::backend::{Backend, checked_id};
use crate::transport::Answer;

impl Backend {
    /// Where there is an endpoint for it, it is told in one stroke. Elsewhere
    /// a waiting prompt is taken out of the queue first, so that one which
    /// begins meanwhile is seen running and interrupted. Versions before 0.3.57
    /// do not read which prompt is meant and interrupt the one that runs
    /// (`reference/comfyui/PROTOCOL.md` section 12), so that none is told unless
    /// it is this one.
    pub(crate) async fn cancel(&self, prompt_id: &str) -> Result<(), ComfyError> {
        let prompt_id = checked_id(prompt_id)?;
        if self.may_have_jobs_api() {
            let path = ["api", "jobs", prompt_id, "cancel"];
            match self
                .transport
                .post("the answer to a cancellation", &path, b"{}".to_vec())
                .await
            {
                Ok(answer) if answer.status == StatusCode::OK => {
                    return Ok(());
                }
                // An older version, or one whose jobs API is out of order.
                Ok(_) | Err(ComfyError::ServerError { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        self.command("queue", json!({"delete": [prompt_id]}))
            .await?;
        if !self.queue().await?.running.iter().any(|id| id == prompt_id) {
            return Ok(());
        }
        self.command("interrupt", json!({"prompt_id": prompt_id}))
            .await
    }

    async fn command(&self, path: &'static str, body: serde_json::Value) -> Result<(), ComfyError> {
        let answer: Answer = self
            .transport
            .post(path, &[path], body.to_string().into_bytes())
            .await?;
        if answer.status == StatusCode::OK {
            Ok(())
        } else {
            Err(answer.unexpected())
        }
    }
}
