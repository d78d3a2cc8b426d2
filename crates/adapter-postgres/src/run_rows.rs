//! Rows of runs, their outputs and events, and what they mean to the domain.

use atelier_domain::graph::GraphJson;
use atelier_domain::output::{OutputKind, RunOutput};
use atelier_domain::ports::{BlobKey, RepoError};
use atelier_domain::run::{
    Run, RunBlueprint, RunEvent, RunEventKind, RunFailure, RunFailureCode, RunPhase, RunPriority,
    RunProgress, RunStatus,
};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Double, Int2, Int4, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::error::inconsistent;
use crate::json_text::JsonText;

const RUNS: &str = "comfyui_workflow_runs";
const OUTPUTS: &str = "comfyui_run_outputs";
const EVENTS: &str = "comfyui_run_events";

/// What [`RunRow`] reads, from `public.comfyui_workflow_runs as run`: the outputs come along as one value, so that a
/// page of runs is one statement.
macro_rules! run_columns {
    () => {
        "run.id, run.user_id, run.workflow_id, run.status, run.phase, run.priority, run.timeout_seconds, run.retry_of, \
         run.progress, run.nodes_done, run.lora_bytes_done, run.lora_bytes_total, \
         coalesce(run.nodes_reported, run.nodes_total) as nodes_total, \
         run.current_node, run.step, run.steps, run.input_params, run.comfyui_prompt_id, run.backend, \
         run.error_code, run.error_message, run.error_node_id, run.error_node_type, run.attempt, run.created_at, \
         run.started_at, run.completed_at, \
         (select json_agg(json_build_object('index', output.index, 'node_id', output.node_id, 'kind', output.kind, \
           'filename', output.filename, 'content_type', output.content_type, 'size_bytes', output.size_bytes, \
           'sha256', output.sha256, 'width', output.width, 'height', output.height, 'blob_key', output.blob_key) \
           order by output.index) \
          from public.comfyui_run_outputs as output where output.run_id = run.id) as outputs"
    };
}
pub(crate) use run_columns;

#[derive(QueryableByName)]
pub(crate) struct RunRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    user_id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    workflow_id: Option<Uuid>,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Text>)]
    phase: Option<String>,
    #[diesel(sql_type = Int2)]
    priority: i16,
    #[diesel(sql_type = Int4)]
    timeout_seconds: i32,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    retry_of: Option<Uuid>,
    #[diesel(sql_type = Nullable<BigInt>)]
    queue_position: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    estimated_start_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Double)]
    progress: f64,
    #[diesel(sql_type = Int4)]
    nodes_done: i32,
    #[diesel(sql_type = Int4)]
    nodes_total: i32,
    #[diesel(sql_type = Nullable<Text>)]
    current_node: Option<String>,
    #[diesel(sql_type = Nullable<Int4>)]
    step: Option<i32>,
    #[diesel(sql_type = Nullable<Int4>)]
    steps: Option<i32>,
    #[diesel(sql_type = Nullable<BigInt>)]
    lora_bytes_done: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    lora_bytes_total: Option<i64>,
    #[diesel(sql_type = Json)]
    input_params: JsonText,
    #[diesel(sql_type = Nullable<Text>)]
    comfyui_prompt_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    backend: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    error_code: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    error_message: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    error_node_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    error_node_type: Option<String>,
    #[diesel(sql_type = Int4)]
    attempt: i32,
    #[diesel(sql_type = Timestamptz)]
    created_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    started_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    completed_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Json>)]
    outputs: Option<JsonText>,
}

impl TryFrom<RunRow> for Run {
    type Error = RepoError;

    fn try_from(row: RunRow) -> Result<Self, RepoError> {
        let broken = |column| inconsistent(RUNS, column, row.id);
        let error = match (row.error_code, row.error_message) {
            (Some(code), Some(message)) => Some(
                RunFailure::new(
                    RunFailureCode::parse(&code).ok_or_else(|| broken("error_code"))?,
                    message,
                )
                .at_node(row.error_node_id, row.error_node_type),
            ),
            _ => None,
        };
        Ok(Self {
            id: row.id.into(),
            workflow_id: row.workflow_id.map(Into::into),
            user_id: row.user_id.into(),
            status: RunStatus::parse(&row.status).ok_or_else(|| broken("status"))?,
            phase: row
                .phase
                .map(|word| RunPhase::parse(&word).ok_or_else(|| broken("phase")))
                .transpose()?,
            priority: RunPriority::new(row.priority.into()).ok_or_else(|| broken("priority"))?,
            timeout_s: natural(row.timeout_seconds),
            queue_position: row.queue_position.map(large_natural),
            estimated_start_at: row.estimated_start_at,
            progress: RunProgress {
                value: row.progress,
                nodes_done: natural(row.nodes_done),
                nodes_total: natural(row.nodes_total),
                current_node: row.current_node,
                step: row.step.map(natural),
                steps: row.steps.map(natural),
                lora_bytes_done: row.lora_bytes_done.map(large_natural),
                lora_bytes_total: row.lora_bytes_total.map(large_natural),
            },
            input_params: serde_json::from_str(&row.input_params.0)
                .map_err(|_no_object| broken("input_params"))?,
            comfyui_prompt_id: row.comfyui_prompt_id,
            backend: row.backend,
            outputs: outputs(row.outputs, row.id)?,
            error,
            attempt: natural(row.attempt),
            retry_of: row.retry_of.map(Into::into),
            created_at: row.created_at,
            started_at: row.started_at,
            completed_at: row.completed_at,
        })
    }
}

/// A count that a CHECK keeps from being negative.
pub(crate) fn natural(number: i32) -> u32 {
    u32::try_from(number).unwrap_or_default()
}

/// The same of a large one.
pub(crate) fn large_natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}

/// A large count as the database keeps it.
pub(crate) fn large_integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// A count as the database keeps it.
pub(crate) fn integer(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Postgres keeps no U+0000, and what a backend says is not worth losing a run over.
pub(crate) fn storable(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// The outputs as `atelier.finish_run` reads them.
pub(crate) fn outputs_json(outputs: &[RunOutput]) -> JsonText {
    JsonText::of(&outputs.iter().map(output_json).collect::<Value>())
}

fn output_json(output: &RunOutput) -> Value {
    json!({
        "index": output.index,
        "node_id": storable(&output.node_id),
        "kind": output.kind.as_str(),
        "filename": storable(&output.filename),
        "content_type": storable(&output.content_type),
        "size_bytes": output.size_bytes,
        "sha256": output.sha256.to_string(),
        "width": output.dimensions.map(|[width, _]| width),
        "height": output.dimensions.map(|[_, height]| height),
        "blob_key": output.blob_key.as_str(),
    })
}

fn outputs(text: Option<JsonText>, run: Uuid) -> Result<Vec<RunOutput>, RepoError> {
    let Some(text) = text else {
        return Ok(Vec::new());
    };
    let broken = |column| inconsistent(OUTPUTS, column, run);
    let rows: Vec<Map<String, Value>> =
        serde_json::from_str(&text.0).map_err(|_no_list| broken("*"))?;
    rows.iter().map(|row| output(row, &broken)).collect()
}

fn output(
    row: &Map<String, Value>,
    broken: &impl Fn(&'static str) -> RepoError,
) -> Result<RunOutput, RepoError> {
    let text = |column| {
        row.get(column)
            .and_then(Value::as_str)
            .ok_or_else(|| broken(column))
    };
    let number = |column| row.get(column).and_then(Value::as_u64);
    let pixels = |column| number(column).and_then(|pixels| u32::try_from(pixels).ok());
    Ok(RunOutput {
        index: pixels("index").ok_or_else(|| broken("index"))?,
        node_id: text("node_id")?.to_owned(),
        kind: OutputKind::parse(text("kind")?).ok_or_else(|| broken("kind"))?,
        filename: text("filename")?.to_owned(),
        content_type: text("content_type")?.to_owned(),
        size_bytes: number("size_bytes").ok_or_else(|| broken("size_bytes"))?,
        sha256: text("sha256")?
            .parse()
            .map_err(|_no_digest| broken("sha256"))?,
        dimensions: pixels("width").zip(pixels("height")).map(<[u32; 2]>::from),
        blob_key: BlobKey::parse(text("blob_key")?).map_err(|_no_key| broken("blob_key"))?,
    })
}

#[derive(QueryableByName)]
pub(crate) struct BlueprintRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    workflow_id: Option<Uuid>,
    #[diesel(sql_type = Json)]
    input_params: JsonText,
    #[diesel(sql_type = Json)]
    graph: JsonText,
    #[diesel(sql_type = Int4)]
    nodes_total: i32,
    #[diesel(sql_type = Array<SqlUuid>)]
    lora_ids: Vec<Uuid>,
    #[diesel(sql_type = Array<SqlUuid>)]
    input_ids: Vec<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    checkpoint: Option<String>,
    #[diesel(sql_type = Int2)]
    priority: i16,
    #[diesel(sql_type = Int4)]
    timeout_seconds: i32,
}

impl TryFrom<BlueprintRow> for RunBlueprint {
    type Error = RepoError;

    fn try_from(row: BlueprintRow) -> Result<Self, RepoError> {
        let broken = |column| inconsistent(RUNS, column, row.id);
        Ok(Self {
            status: RunStatus::parse(&row.status).ok_or_else(|| broken("status"))?,
            workflow_id: row.workflow_id.map(Into::into),
            input_params: serde_json::from_str(&row.input_params.0)
                .map_err(|_no_object| broken("input_params"))?,
            graph: GraphJson::from_trusted(row.graph.0),
            nodes_total: natural(row.nodes_total),
            lora_ids: row.lora_ids.into_iter().map(Into::into).collect(),
            input_ids: row.input_ids.into_iter().map(Into::into).collect(),
            checkpoint: row.checkpoint,
            priority: RunPriority::new(row.priority.into()).ok_or_else(|| broken("priority"))?,
            timeout_s: natural(row.timeout_seconds),
        })
    }
}

#[derive(QueryableByName)]
pub(crate) struct RunEventRow {
    #[diesel(sql_type = SqlUuid)]
    run_id: Uuid,
    /// Null where the run has no event that was asked for.
    #[diesel(sql_type = Nullable<BigInt>)]
    sequence: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    kind: Option<String>,
    #[diesel(sql_type = Nullable<Json>)]
    data: Option<JsonText>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    created_at: Option<DateTime<Utc>>,
}

impl RunEventRow {
    /// The event; `None` for the row that says only that the run is there.
    pub(crate) fn into_event(self) -> Result<Option<RunEvent>, RepoError> {
        let (Some(sequence), Some(kind), Some(data), Some(created_at)) =
            (self.sequence, self.kind, self.data, self.created_at)
        else {
            return Ok(None);
        };
        let broken = |column| inconsistent(EVENTS, column, format!("{} {sequence}", self.run_id));
        Ok(Some(RunEvent {
            sequence,
            kind: RunEventKind::parse(&kind).ok_or_else(|| broken("kind"))?,
            data: serde_json::from_str(&data.0).map_err(|_no_json| broken("data"))?,
            created_at,
        }))
    }
}

#[derive(QueryableByName)]
pub(crate) struct StatusRow {
    #[diesel(sql_type = Text)]
    pub(crate) status: String,
}
