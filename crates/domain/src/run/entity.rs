use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use super::{RunFailure, RunPhase, RunPriority, RunProgress, RunStatus};
use crate::graph::GraphJson;
use crate::ids::{InputId, LoraId, RunId, UserId, WorkflowId};
use crate::output::RunOutput;
use crate::page::Cursor;

/// One execution of a workflow, as its owner sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// What it executes; `None` once that workflow is deleted.
    pub workflow_id: Option<WorkflowId>,
    /// Whose it is: the person who asked for it.
    pub user_id: UserId,
    /// Where it stands.
    pub status: RunStatus,
    /// What its worker is doing; only while it is running.
    pub phase: Option<RunPhase>,
    /// Which of the owner's runs are begun first.
    pub priority: RunPriority,
    /// How long it may take, in whole seconds from the moment that it is first
    /// begun.
    pub timeout_s: u32,
    /// How many runs will be begun before it as things stand, where that is
    /// known.
    pub queue_position: Option<u64>,
    /// When it will probably be begun, by the pace of recent runs; `None` where
    /// there is nothing to judge by.
    pub estimated_start_at: Option<DateTime<Utc>>,
    /// How far it is.
    pub progress: RunProgress,
    /// The values that were put into the workflow.
    pub input_params: Map<String, Value>,
    /// What the backend calls it; the run's own id unless the backend is too
    /// old to take one.
    pub comfyui_prompt_id: Option<String>,
    /// The name of the backend that has it.
    pub backend: Option<String>,
    /// What it left behind, in the order of their indexes.
    pub outputs: Vec<RunOutput>,
    /// Why it failed.
    pub error: Option<RunFailure>,
    /// Which attempt this is; 0 before the first.
    pub attempt: u32,
    /// The run that this one repeats; `None` once that one is gone.
    pub retry_of: Option<RunId>,
    /// When it was asked for.
    pub created_at: DateTime<Utc>,
    /// When its first attempt began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub completed_at: Option<DateTime<Utc>>,
}

impl Run {
    /// Where the run stands in a list.
    pub fn cursor(&self) -> Cursor {
        Cursor {
            created_at: self.created_at,
            id: self.id.as_uuid(),
        }
    }
}

/// What is needed to put a new run into the queue; its owner is the actor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewRun {
    /// Its id, from the `IdGen` port.
    pub id: RunId,
    /// What it executes; `None` if it repeats a run whose workflow is gone.
    pub workflow_id: Option<WorkflowId>,
    /// The values that were put into the workflow.
    pub input_params: Map<String, Value>,
    /// The graph with those values, its LoRA inputs rewritten and its outputs
    /// sent to this run's own folder.
    pub graph: GraphJson,
    /// How many nodes that graph has.
    pub nodes_total: u32,
    /// The LoRAs that it needs on the backend's disk.
    pub lora_ids: Vec<LoraId>,
    /// The input files that it needs on the backend.
    pub input_ids: Vec<InputId>,
    /// The first checkpoint that the graph loads: a backend that has it loaded
    /// already suits the run better.
    pub checkpoint: Option<String>,
    /// Which of the owner's runs are begun first.
    pub priority: RunPriority,
    /// How long it may take once it is begun, in whole seconds.
    pub timeout_s: u32,
    /// The run that this one repeats.
    pub retry_of: Option<RunId>,
    /// The trace that its request belongs to: a `traceparent` (W3C Trace
    /// Context, level 1), if somebody traces.
    pub trace_parent: Option<String>,
    /// When it is asked for, from the `Clock` port.
    pub created_at: DateTime<Utc>,
}

impl NewRun {
    /// The run as it is once it waits.
    pub fn pending(&self, owner: UserId) -> Run {
        Run {
            id: self.id,
            workflow_id: self.workflow_id,
            user_id: owner,
            status: RunStatus::Pending,
            phase: None,
            priority: self.priority,
            timeout_s: self.timeout_s,
            queue_position: None,
            estimated_start_at: None,
            progress: RunProgress {
                nodes_total: self.nodes_total,
                ..RunProgress::default()
            },
            input_params: self.input_params.clone(),
            comfyui_prompt_id: None,
            backend: None,
            outputs: Vec::new(),
            error: None,
            attempt: 0,
            retry_of: self.retry_of,
            created_at: self.created_at,
            started_at: None,
            completed_at: None,
        }
    }
}

/// What is needed to do again what a run did.
#[derive(Clone, Debug, PartialEq)]
pub struct RunBlueprint {
    /// Where the run stands.
    pub status: RunStatus,
    /// What it executes; `None` once that workflow is deleted.
    pub workflow_id: Option<WorkflowId>,
    /// The values that were put into the workflow.
    pub input_params: Map<String, Value>,
    /// The graph that was, or would have been, submitted.
    pub graph: GraphJson,
    /// How many nodes that graph has.
    pub nodes_total: u32,
    /// The LoRAs that it needs on the backend's disk.
    pub lora_ids: Vec<LoraId>,
    /// The input files that it needs on the backend.
    pub input_ids: Vec<InputId>,
    /// The first checkpoint that the graph loads.
    pub checkpoint: Option<String>,
    /// Its priority.
    pub priority: RunPriority,
    /// How long it may take once it is begun, in whole seconds.
    pub timeout_s: u32,
}

/// Which runs a list holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunFilter {
    /// Only those that stand here.
    pub status: Option<RunStatus>,
    /// Only those of this workflow.
    pub workflow_id: Option<WorkflowId>,
}

impl RunFilter {
    /// Describes the list, for [`Cursor::encode`].
    pub fn list_name(&self) -> String {
        format!(
            "runs?status={}&workflow_id={}",
            self.status.map_or("", RunStatus::as_str),
            self.workflow_id
                .map_or_else(String::new, |id| id.to_string())
        )
    }
}
