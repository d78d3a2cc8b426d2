//! Runs on the wire.

use atelier_domain::ids::RunId;
use atelier_domain::output::{OutputKind, RunOutput};
use atelier_domain::run::{Run, RunFailure, RunPhase, RunProgress, RunStatus};
use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;
use uuid::Uuid;

use crate::http::PREFIX;
use crate::http::openapi::values::{
    Digest, OutputKindWord, RunFailureWord, RunPhaseWord, RunStatusWord,
};
use crate::http::query::Query;
use crate::http::time::Timestamp;

/// One execution of a workflow.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Run)]
pub(crate) struct RunBody<'a> {
    /// Its id.
    id: Uuid,
    /// What it executes; null once that workflow is deleted.
    workflow_id: Option<Uuid>,
    /// Whose it is: the person who asked for it.
    user_id: Uuid,
    /// Where it stands.
    #[schema(value_type = RunStatusWord)]
    status: &'static str,
    /// What its worker is doing, while it is running.
    #[schema(value_type = Option<RunPhaseWord>)]
    phase: Option<&'static str>,
    /// Which of one's own runs are begun first, -10 to 10: the higher, the
    /// sooner. Other people's runs take turns with them whatever it is.
    #[schema(minimum = -10, maximum = 10)]
    priority: i8,
    /// How long it may take, in seconds from the moment that it is first begun.
    timeout_s: u32,
    /// How many runs will be begun before it, where that is known.
    queue_position: Option<u64>,
    /// When it will probably be begun, by the pace of recent runs, where that
    /// is known.
    estimated_start_at: Option<Timestamp>,
    /// How far it is.
    progress: ProgressBody<'a>,
    /// The values that were put into the workflow.
    #[schema(value_type = Object)]
    input_params: &'a Map<String, Value>,
    /// What ComfyUI calls it.
    comfyui_prompt_id: Option<&'a str>,
    /// The backend that has it.
    backend: Option<&'a str>,
    /// What it left behind.
    outputs: Vec<OutputBody<'a>>,
    /// The addresses of the pictures among its outputs.
    output_images: Vec<String>,
    /// Why it failed.
    error: Option<RunErrorBody<'a>>,
    /// Which attempt this is, from 1; 0 before the first.
    attempt: u32,
    /// The run that this one repeats.
    retry_of: Option<Uuid>,
    /// When it was asked for.
    created_at: Timestamp,
    /// When its first attempt began.
    started_at: Option<Timestamp>,
    /// When it ended.
    completed_at: Option<Timestamp>,
}

/// How far a run is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunProgress)]
pub(crate) struct ProgressBody<'a> {
    /// The whole, 0 to 1; never falls within an attempt.
    #[schema(minimum = 0, maximum = 1)]
    value: f64,
    /// How many nodes are done.
    nodes_done: u32,
    /// How many nodes there are.
    nodes_total: u32,
    /// The node that is being worked on.
    current_node: Option<&'a str>,
    /// Steps done within that node.
    step: Option<u32>,
    /// Steps that the node has.
    steps: Option<u32>,
    /// How many bytes of the LoRAs that the backend lacked are there by now;
    /// null where none had to be copied.
    lora_bytes_done: Option<u64>,
    /// How many had to be copied.
    lora_bytes_total: Option<u64>,
}

/// One output of a run.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunOutput)]
pub(crate) struct OutputBody<'a> {
    /// Its place among the run's outputs, from 0.
    index: u32,
    /// The node that made it.
    node_id: &'a str,
    #[schema(value_type = OutputKindWord)]
    kind: &'static str,
    /// What the node called it.
    filename: &'a str,
    /// Its media type.
    #[schema(example = "image/png")]
    content_type: &'a str,
    /// How large it is, in bytes.
    size_bytes: u64,
    /// The SHA-256 digest of its bytes, in hexadecimal digits.
    #[schema(value_type = Digest)]
    sha256: String,
    /// In pixels, where it has any.
    width: Option<u32>,
    /// In pixels, where it has any.
    height: Option<u32>,
    /// Where its bytes are, relative to this server's root.
    url: String,
}

/// Why a run failed.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RunError)]
pub(crate) struct RunErrorBody<'a> {
    /// What sort of failure, for programs.
    #[schema(value_type = RunFailureWord)]
    code: &'static str,
    /// What happened and what to do, for people.
    message: &'a str,
    /// The node at fault, where one is.
    node_id: Option<&'a str>,
    /// Its class.
    node_type: Option<&'a str>,
}

/// Where a run is.
pub(crate) fn location(id: RunId) -> String {
    format!("{PREFIX}/runs/{id}")
}

/// Takes the query parameter `status`.
pub(crate) fn status_parameter(query: &mut Query) -> Option<RunStatus> {
    query.value(
        "status",
        "pending, running, completed, failed or cancelled",
        RunStatus::parse,
    )
}

impl<'a> From<&'a Run> for RunBody<'a> {
    fn from(run: &'a Run) -> Self {
        let Run {
            id,
            workflow_id,
            user_id,
            status,
            phase,
            priority,
            timeout_s,
            queue_position,
            estimated_start_at,
            progress,
            input_params,
            comfyui_prompt_id,
            backend,
            outputs,
            error,
            attempt,
            retry_of,
            created_at,
            started_at,
            completed_at,
        } = run;
        let outputs: Vec<_> = outputs
            .iter()
            .map(|output| OutputBody::new(*id, output))
            .collect();
        Self {
            id: id.as_uuid(),
            workflow_id: workflow_id.map(Uuid::from),
            user_id: user_id.as_uuid(),
            status: status.as_str(),
            phase: phase.map(RunPhase::as_str),
            priority: priority.value(),
            timeout_s: *timeout_s,
            queue_position: *queue_position,
            estimated_start_at: estimated_start_at.map(Timestamp),
            progress: ProgressBody::from(progress),
            input_params,
            comfyui_prompt_id: comfyui_prompt_id.as_deref(),
            backend: backend.as_deref(),
            output_images: outputs
                .iter()
                .filter(|output| output.kind == OutputKind::Image.as_str())
                .map(|output| output.url.clone())
                .collect(),
            outputs,
            error: error.as_ref().map(RunErrorBody::from),
            attempt: *attempt,
            retry_of: retry_of.map(Uuid::from),
            created_at: Timestamp(*created_at),
            started_at: started_at.map(Timestamp),
            completed_at: completed_at.map(Timestamp),
        }
    }
}

impl<'a> From<&'a RunProgress> for ProgressBody<'a> {
    fn from(progress: &'a RunProgress) -> Self {
        let RunProgress {
            value,
            nodes_done,
            nodes_total,
            current_node,
            step,
            steps,
            lora_bytes_done,
            lora_bytes_total,
        } = progress;
        Self {
            value: *value,
            nodes_done: *nodes_done,
            nodes_total: *nodes_total,
            current_node: current_node.as_deref(),
            step: *step,
            steps: *steps,
            lora_bytes_done: *lora_bytes_done,
            lora_bytes_total: *lora_bytes_total,
        }
    }
}

impl<'a> OutputBody<'a> {
    fn new(run: RunId, output: &'a RunOutput) -> Self {
        let RunOutput {
            index,
            node_id,
            kind,
            filename,
            content_type,
            size_bytes,
            sha256,
            dimensions,
            blob_key: _,
        } = output;
        Self {
            index: *index,
            node_id,
            kind: kind.as_str(),
            filename,
            content_type,
            size_bytes: *size_bytes,
            sha256: sha256.to_string(),
            width: dimensions.map(|[width, _]| width),
            height: dimensions.map(|[_, height]| height),
            url: format!("{}/outputs/{index}", location(run)),
        }
    }
}

impl<'a> From<&'a RunFailure> for RunErrorBody<'a> {
    fn from(failure: &'a RunFailure) -> Self {
        let RunFailure {
            code,
            message,
            node_id,
            node_type,
        } = failure;
        Self {
            code: code.as_str(),
            message,
            node_id: node_id.as_deref(),
            node_type: node_type.as_deref(),
        }
    }
}
