use std::collections::BTreeMap;

use async_trait::async_trait;
use atelier_domain::input::InputPath;
use atelier_domain::output::BackendFile;
use atelier_domain::ports::{
    BackendInformation, BackendQueue, ByteStream, ComfyClient, ComfyError, ComfyEvents,
    LoraCatalogue, OutputReader, PromptOutcome, PromptResult, PromptState, PromptSubmission,
    Source, SubmittedPrompt,
};
use bytes::BytesMut;
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc::unbounded_channel;

use super::state::file_key;
use super::{ScriptedComfy, SubmitAnswer};

fn lost() -> ComfyError {
    ComfyError::AnswerLost("the test lost the answer".into())
}

#[async_trait]
impl ComfyClient for ScriptedComfy {
    async fn submit(&self, submission: PromptSubmission) -> Result<SubmittedPrompt, ComfyError> {
        let mut state = self.open()?;
        let script = match state.scripts.pop_front() {
            Some(script) => script,
            None => state.plain_success(&submission),
        };
        let prompt_id = script
            .prompt_id
            .unwrap_or_else(|| submission.run_id.to_string());
        let client_id = submission.client_id.clone();
        match script.answer {
            SubmitAnswer::Taken { dropped } => {
                state.submissions.push(submission);
                state.take(&prompt_id, &client_id, script.then);
                Ok(SubmittedPrompt { prompt_id, dropped })
            }
            SubmitAnswer::TakenUnheard => {
                state.submissions.push(submission);
                state.take(&prompt_id, &client_id, script.then);
                Err(lost())
            }
            SubmitAnswer::LostUnseen => Err(lost()),
            SubmitAnswer::Unreachable => Err(ComfyError::Unreachable(
                "the test cut the connection".into(),
            )),
            SubmitAnswer::Rejected(rejection) => {
                state.submissions.push(submission);
                Err(ComfyError::Rejected(rejection))
            }
            SubmitAnswer::Unauthorized(status) => Err(ComfyError::Unauthorized { status }),
            SubmitAnswer::ServerError(status) => Err(ComfyError::ServerError { status }),
        }
    }

    async fn prompt_state(&self, prompt_id: &str) -> Result<PromptState, ComfyError> {
        let mut state = self.open()?;
        let Some(prompt) = state.prompts.get_mut(prompt_id) else {
            return Ok(PromptState::Unknown);
        };
        if prompt.late.is_some() && prompt.questions_left > 0 {
            prompt.questions_left -= 1;
        } else if let Some(result) = prompt.late.take() {
            prompt.state = PromptState::Finished(result);
            state.order.retain(|id| id != prompt_id);
        }
        let ahead = state.order.iter().position(|id| id == prompt_id);
        let answer = state.prompts.get(prompt_id).map(|prompt| &prompt.state);
        Ok(match answer {
            Some(PromptState::Pending { .. }) => PromptState::Pending {
                ahead: ahead
                    .and_then(|ahead| u32::try_from(ahead).ok())
                    .unwrap_or(0),
            },
            Some(other) => other.clone(),
            None => PromptState::Unknown,
        })
    }

    async fn cancel(&self, prompt_id: &str) -> Result<(), ComfyError> {
        let mut state = self.open()?;
        let found = state
            .prompts
            .get(prompt_id)
            .map(|prompt| prompt.state.clone());
        state.cancelled.push(prompt_id.to_owned());
        match found {
            Some(PromptState::Running) => {
                let result = PromptResult {
                    outcome: PromptOutcome::Interrupted,
                    outputs: Vec::new(),
                };
                if let Some(prompt) = state.prompts.get_mut(prompt_id) {
                    prompt.late = None;
                }
                state.enter(prompt_id, PromptState::Finished(result));
            }
            Some(PromptState::Pending { .. }) => state.enter(prompt_id, PromptState::Unknown),
            Some(PromptState::Finished(_) | PromptState::Unknown) | None => {}
        }
        Ok(())
    }

    async fn queue(&self) -> Result<BackendQueue, ComfyError> {
        let state = self.open()?;
        let runs = |id: &String| {
            let prompt = state.prompts.get(id);
            prompt.is_some_and(|prompt| prompt.state == PromptState::Running)
        };
        let (running, pending) = state.order.iter().cloned().partition(runs);
        Ok(BackendQueue { running, pending })
    }

    async fn lora_catalogue(&self) -> Result<LoraCatalogue, ComfyError> {
        Ok(self.open()?.catalogue.clone())
    }

    async fn checkpoint_metadata(
        &self,
        checkpoint: &str,
    ) -> Result<BTreeMap<String, String>, ComfyError> {
        let state = self.open()?;
        Ok(state
            .checkpoint_metadata
            .get(checkpoint)
            .cloned()
            .unwrap_or_default())
    }

    async fn place_input(
        &self,
        path: &InputPath,
        size_bytes: u64,
        mut bytes: ByteStream<Source>,
    ) -> Result<(), ComfyError> {
        drop(self.open()?);
        let mut received = BytesMut::new();
        while let Some(chunk) = bytes.next().await {
            received.extend_from_slice(&chunk.map_err(ComfyError::Unreachable)?);
        }
        if received.len() as u64 != size_bytes {
            return Err(ComfyError::Protocol(format!(
                "{} bytes came of {size_bytes}",
                received.len()
            )));
        }
        let mut state = self.open()?;
        let received = received.freeze();
        state.inputs.entry(path.clone()).or_insert(received);
        Ok(())
    }

    async fn connect_events(&self) -> Result<ComfyEvents, ComfyError> {
        let mut state = self.open()?;
        state.sockets_opened += 1;
        let client_id = format!("client-{}", state.sockets_opened);
        let (sender, receiver) = unbounded_channel();
        state.sockets.insert(client_id.clone(), sender);
        Ok(ComfyEvents {
            client_id,
            stream: stream::unfold(receiver, async |mut receiver| {
                Some((receiver.recv().await?, receiver))
            })
            .boxed(),
        })
    }

    async fn fetch_output(&self, file: &BackendFile) -> Result<OutputReader, ComfyError> {
        let state = self.open()?;
        let stored = state
            .files
            .get(&file_key(file))
            .cloned()
            .ok_or_else(|| ComfyError::NotFound(format!("file {}", file.filename)))?;
        Ok(OutputReader {
            content_type: stored.content_type,
            size_bytes: Some(stored.bytes.len() as u64),
            bytes: stream::iter([Ok(stored.bytes)]).boxed(),
        })
    }

    async fn information(&self) -> Result<BackendInformation, ComfyError> {
        Ok(BackendInformation {
            version: self.open()?.version.clone(),
        })
    }
}
