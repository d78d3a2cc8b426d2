use atelier_domain::output::BackendOutput;
use atelier_domain::ports::{ComfyError, PromptOutcome, PromptResult, PromptState};
use reqwest::StatusCode;
use serde_json::Value;

use super::backend::{Backend, checked_id};

impl Backend {
    /// The jobs API tells it in one answer; where it is missing, or out of
    /// order, the queue and then the history do. In the other order a prompt
    /// could slip through between the two.
    pub(crate) async fn prompt_state(&self, prompt_id: &str) -> Result<PromptState, ComfyError> {
        let prompt_id = checked_id(prompt_id)?;
        if self.may_have_jobs_api()
            && let Some(state) = self.state_by_jobs(prompt_id).await?
        {
            return Ok(state);
        }
        self.state_by_queue(prompt_id).await
    }

    /// `None` if the jobs API cannot say.
    async fn state_by_jobs(&self, prompt_id: &str) -> Result<Option<PromptState>, ComfyError> {
        let asked = self
            .transport
            .get("a job", &["api", "jobs", prompt_id], self.transport.long())
            .await;
        let answer = match asked {
            // One history entry of anybody's can break it for all
            // (reference/comfyui/PROTOCOL.md section 3).
            Err(ComfyError::ServerError { .. }) => return Ok(None),
            other => other?,
        };
        let job = serde_json::from_slice::<Value>(&answer.body).ok();
        match answer.status {
            StatusCode::OK => Ok(job.as_ref().and_then(state_of_job)),
            StatusCode::NOT_FOUND if job.is_some_and(|job| job.get("error").is_some()) => {
                Ok(Some(PromptState::Unknown))
            }
            // The route is not there: an older version.
            StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => {
                self.has_no_jobs_api();
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    async fn state_by_queue(&self, prompt_id: &str) -> Result<PromptState, ComfyError> {
        let queue = self.queue().await?;
        if queue.running.iter().any(|id| id == prompt_id) {
            return Ok(PromptState::Running);
        }
        if let Some(before) = queue.pending.iter().position(|id| id == prompt_id) {
            let ahead = u32::try_from(before + queue.running.len()).unwrap_or(u32::MAX);
            return Ok(PromptState::Pending { ahead });
        }
        let answer = self
            .transport
            .get(
                "the history",
                &["history", prompt_id],
                self.transport.long(),
            )
            .await?;
        let history: Value = answer.json()?;
        Ok(history
            .get(prompt_id)
            .map_or(PromptState::Unknown, |entry| {
                PromptState::Finished(result(entry.get("status"), entry.get("outputs")))
            }))
    }
}

/// `None` for a job that waits, since how many are before it stands in the
/// queue alone, and for what is no job.
fn state_of_job(job: &Value) -> Option<PromptState> {
    match job.get("status")?.as_str()? {
        "in_progress" => Some(PromptState::Running),
        "completed" | "failed" | "cancelled" => {
            let status = job
                .get("execution_status")
                .filter(|status| status.is_object())?;
            Some(PromptState::Finished(result(
                Some(status),
                job.get("outputs"),
            )))
        }
        _ => None,
    }
}

fn result(status: Option<&Value>, outputs: Option<&Value>) -> PromptResult {
    PromptResult {
        outcome: outcome(status.unwrap_or(&Value::Null)),
        outputs: outputs.map(BackendOutput::from_history).unwrap_or_default(),
    }
}

/// An interrupt says "error" as well: only its message tells.
fn outcome(status: &Value) -> PromptOutcome {
    let messages = status.get("messages").and_then(Value::as_array);
    let message = |name: &str| {
        let messages = messages.into_iter().flatten();
        messages
            .filter(|message| message.get(0).and_then(Value::as_str) == Some(name))
            .find_map(|message| message.get(1))
    };
    if message("execution_interrupted").is_some() {
        return PromptOutcome::Interrupted;
    }
    if status.get("status_str").and_then(Value::as_str) == Some("success") {
        return PromptOutcome::Success;
    }
    let error = message("execution_error");
    let word = |name: &str| error.and_then(|error| error.get(name)).and_then(word_of);
    PromptOutcome::Failed {
        node_id: word("node_id"),
        node_type: word("node_type"),
        exception_type: word("exception_type").filter(|name| is_type_name(name)),
    }
}

fn word_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.chars().take(200).collect()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// `torch.OutOfMemoryError` and its like, never a sentence.
fn is_type_name(name: &str) -> bool {
    name.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_interrupt_is_told_from_an_error_by_its_message() {
        let interrupted = json!({"status_str": "error", "completed": false, "messages": [
            ["execution_start", {}], ["execution_interrupted", {"node_id": "3"}]
        ]});
        let failed = json!({"status_str": "error", "completed": false, "messages": [
            ["execution_start", {}],
            ["execution_error", {"node_id": "3", "node_type": "LoraLoader", "exception_type": "FileNotFoundError",
                "exception_message": "Model in folder 'loras' with filename 'user-2/x' not found."}]
        ]});

        assert_eq!(outcome(&interrupted), PromptOutcome::Interrupted);
        assert_eq!(
            outcome(&failed),
            PromptOutcome::Failed {
                node_id: Some("3".into()),
                node_type: Some("LoraLoader".into()),
                exception_type: Some("FileNotFoundError".into()),
            }
        );
        assert_eq!(
            outcome(&json!({"status_str": "success", "messages": []})),
            PromptOutcome::Success
        );
    }

    #[test]
    fn a_status_without_a_reason_is_a_failure() {
        for status in [
            json!(null),
            json!({}),
            json!({"status_str": "error", "messages": ["odd", [1], []]}),
        ] {
            assert!(
                matches!(
                    outcome(&status),
                    PromptOutcome::Failed { node_id: None, .. }
                ),
                "{status}"
            );
        }
    }

    #[test]
    fn an_exception_type_is_a_name_and_no_sentence() {
        let status =
            json!({"messages": [["execution_error", {"exception_type": "could not read /srv/x"}]]});

        assert!(matches!(
            outcome(&status),
            PromptOutcome::Failed {
                exception_type: None,
                ..
            }
        ));
    }
}
