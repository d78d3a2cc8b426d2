//! The sample job: what a new user would do first, done over HTTP like any client.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::multipart::{Form, Part};
use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use thiserror::Error;

use super::sample_lora;

const WORKFLOW: &str = include_str!("sample_workflow.json");
const API: &str = "/api/v1/comfyui";
/// The longest a single request waits for the run, in seconds.
const WAIT_SECONDS: u64 = 30;

/// Why the sample job did not end with a picture.
#[derive(Debug, Error)]
pub(super) enum SampleError {
    #[error("{step}: the server could not be reached")]
    Unreachable {
        step: &'static str,
        #[source]
        source: reqwest::Error,
    },
    #[error("{step}: the server answered {status}: {body}")]
    Refused {
        step: &'static str,
        status: StatusCode,
        body: String,
    },
    #[error("{step}: the answer has no {member}")]
    Incomplete {
        step: &'static str,
        member: &'static str,
    },
    #[error("the run ended as {status}: {reason}")]
    NotCompleted { status: String, reason: String },
    #[error("the run did not end within {} s", .0.as_secs())]
    TooSlow(Duration),
    #[error("the picture could not be saved as {path}")]
    Unsaved {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("the picture {path} does not say that the LoRA {lora_path} was used")]
    WithoutLora { path: PathBuf, lora_path: String },
}

/// What the job needs.
pub(super) struct SampleJob {
    pub(super) client: Client,
    /// Where the server is, such as `http://127.0.0.1:8080`.
    pub(super) server: String,
    pub(super) token: String,
    /// The checkpoint to sample with, by the backend's name for it.
    pub(super) checkpoint: String,
    /// Where the picture goes.
    pub(super) pictures: PathBuf,
    /// How long the run may take.
    pub(super) patience: Duration,
}

impl SampleJob {
    /// Does the job and tells each step; gives the path of the picture.
    pub(super) async fn run(&self, tell: &(dyn Fn(String) + Sync)) -> Result<PathBuf, SampleError> {
        let workflow_id = self.create_workflow().await?;
        tell(format!(
            "created the workflow \"Demo: SD 1.5 with a LoRA\" ({workflow_id})"
        ));
        let lora_path = self.upload_lora().await?;
        tell(format!(
            "uploaded the LoRA {} as {lora_path}",
            sample_lora::FILENAME
        ));
        let run_id = self.start_run(&workflow_id).await?;
        tell(format!("started the run {run_id}"));
        let run = self.wait_for(&run_id).await?;
        let picture = self.save_picture(&run_id, &run).await?;
        if !names_lora(&picture.bytes, &lora_path) {
            return Err(SampleError::WithoutLora {
                path: picture.path,
                lora_path,
            });
        }
        tell(format!("saved the picture {}", picture.path.display()));
        Ok(picture.path)
    }

    async fn create_workflow(&self) -> Result<String, SampleError> {
        const STEP: &str = "creating the workflow";
        // The raw text stays as it is; the server reads it like anybody's.
        let body = format!(
            r#"{{"name": "Demo: SD 1.5 with a LoRA", "tags": ["demo"], "workflow_json": {WORKFLOW}}}"#
        );
        let request = self
            .client
            .post(self.url("/workflows"))
            .header("content-type", "application/json")
            .body(body);
        let workflow = self.json(STEP, request).await?;
        text(STEP, &workflow, "id")
    }

    async fn upload_lora(&self) -> Result<String, SampleError> {
        const STEP: &str = "uploading the LoRA";
        let file = Part::bytes(sample_lora::bytes()).file_name(sample_lora::FILENAME);
        let form = Form::new()
            .text("name", "Demo LoRA")
            .text("tags", "demo")
            .part("file", file);
        let upload = self.client.post(self.url("/loras")).multipart(form);
        match self.json(STEP, upload).await {
            // An earlier start on this directory has uploaded it.
            Err(SampleError::Refused {
                status: StatusCode::CONFLICT,
                ..
            }) => self.earlier_lora().await,
            answer => text(STEP, &answer?, "comfyui_path"),
        }
    }

    async fn earlier_lora(&self) -> Result<String, SampleError> {
        const STEP: &str = "looking for the LoRA of an earlier start";
        let request = self
            .client
            .get(self.url("/loras"))
            .query(&[("q", sample_lora::FILENAME), ("status", "ready")]);
        let page = self.json(STEP, request).await?;
        let found = page
            .get("items")
            .and_then(Value::as_array)
            .and_then(|items| {
                items
                    .iter()
                    .find(|lora| member(lora, "/filename") == Some(sample_lora::FILENAME))
            });
        text(STEP, found.unwrap_or(&Value::Null), "comfyui_path")
    }

    async fn start_run(&self, workflow_id: &str) -> Result<String, SampleError> {
        const STEP: &str = "starting the run";
        let request = self
            .client
            .post(self.url(&format!("/workflows/{workflow_id}/run")))
            .json(&json!({"input_params": {"checkpoint": self.checkpoint}}));
        let run = self.json(STEP, request).await?;
        text(STEP, &run, "id")
    }

    async fn wait_for(&self, run_id: &str) -> Result<Value, SampleError> {
        const STEP: &str = "waiting for the run";
        let patient = async {
            loop {
                let request = self
                    .client
                    .get(self.url(&format!("/runs/{run_id}")))
                    .query(&[("wait", WAIT_SECONDS)]);
                let run = self.json(STEP, request).await?;
                match member(&run, "/status") {
                    Some("completed") => return Ok(run),
                    Some(status @ ("failed" | "cancelled")) => {
                        return Err(SampleError::NotCompleted {
                            status: status.to_owned(),
                            reason: member(&run, "/error/message")
                                .unwrap_or_default()
                                .to_owned(),
                        });
                    }
                    _ => {}
                }
            }
        };
        tokio::time::timeout(self.patience, patient)
            .await
            .unwrap_or(Err(SampleError::TooSlow(self.patience)))
    }

    async fn save_picture(&self, run_id: &str, run: &Value) -> Result<Picture, SampleError> {
        const STEP: &str = "fetching the picture";
        let address = member(run, "/output_images/0").ok_or(SampleError::Incomplete {
            step: STEP,
            member: "output_images",
        })?;
        let response = self
            .client
            .get(format!("{}{address}", self.server))
            .bearer_auth(&self.token)
            .send()
            .await
            .map_err(|source| SampleError::Unreachable { step: STEP, source })?;
        let status = response.status();
        let bytes = response
            .bytes()
            .await
            .map_err(|source| SampleError::Unreachable { step: STEP, source })?;
        if !status.is_success() {
            return Err(SampleError::Refused {
                step: STEP,
                status,
                body: String::from_utf8_lossy(&bytes).into_owned(),
            });
        }
        let path = self.pictures.join(format!("{run_id}.png"));
        let saved = match tokio::fs::create_dir_all(&self.pictures).await {
            Ok(()) => tokio::fs::write(&path, &bytes).await,
            Err(error) => Err(error),
        };
        match saved {
            Ok(()) => Ok(Picture {
                path,
                bytes: bytes.into(),
            }),
            Err(source) => Err(SampleError::Unsaved { path, source }),
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{API}{path}", self.server)
    }

    async fn json(
        &self,
        step: &'static str,
        request: RequestBuilder,
    ) -> Result<Value, SampleError> {
        let unreachable = |source| SampleError::Unreachable { step, source };
        let response = request
            .bearer_auth(&self.token)
            .send()
            .await
            .map_err(unreachable)?;
        let status = response.status();
        let body = response.text().await.map_err(unreachable)?;
        match serde_json::from_str(&body) {
            Ok(value) if status.is_success() => Ok(value),
            _ => Err(SampleError::Refused { step, status, body }),
        }
    }
}

struct Picture {
    path: PathBuf,
    bytes: Vec<u8>,
}

/// The text at a JSON pointer.
fn member<'a>(answer: &'a Value, pointer: &str) -> Option<&'a str> {
    answer.pointer(pointer).and_then(Value::as_str)
}

fn text(step: &'static str, answer: &Value, member: &'static str) -> Result<String, SampleError> {
    answer
        .get(member)
        .and_then(Value::as_str)
        .map(str::to_owned)
        .ok_or(SampleError::Incomplete { step, member })
}

/// Whether the `prompt` that ComfyUI wrote into a PNG names the LoRA.
fn names_lora(bytes: &[u8], lora_path: &str) -> bool {
    let Ok(reader) = png::Decoder::new(std::io::Cursor::new(bytes)).read_info() else {
        return false;
    };
    reader
        .info()
        .uncompressed_latin1_text
        .iter()
        .any(|chunk| chunk.keyword == "prompt" && chunk.text.contains(lora_path))
}
