//! What the statements of the run queue answer.

use atelier_domain::graph::GraphJson;
use atelier_domain::ids::ClaimToken;
use atelier_domain::ports::{ClaimedRun, ReleaseReason};
use atelier_domain::run::RunTransition;
use diesel::QueryableByName;
use diesel::sql_types::{Array, Bool, Int4, Json, Nullable, Text, Uuid as SqlUuid};
use uuid::Uuid;

use crate::json_text::JsonText;
use crate::run_rows::natural;

#[derive(QueryableByName)]
pub(crate) struct QueueRow {
    #[diesel(sql_type = Bool)]
    pub(crate) somebody_waits: bool,
}

#[derive(QueryableByName)]
pub(crate) struct Held {
    #[diesel(sql_type = Bool)]
    pub(crate) held: bool,
}

#[derive(QueryableByName)]
pub(crate) struct HeartbeatRow {
    #[diesel(sql_type = Bool)]
    pub(crate) cancel_requested: bool,
}

#[derive(QueryableByName)]
pub(crate) struct HeldRow {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) id: Uuid,
    #[diesel(sql_type = Int4)]
    pub(crate) attempt: i32,
    #[diesel(sql_type = Bool)]
    pub(crate) cancel_requested: bool,
    #[diesel(sql_type = Bool)]
    pub(crate) may_live: bool,
}

impl HeldRow {
    pub(crate) fn release(&self, reason: ReleaseReason) -> RunTransition {
        match reason {
            ReleaseReason::HandOver => RunTransition::HandOver,
            ReleaseReason::WorkerLost | ReleaseReason::BackendLost => RunTransition::Release {
                attempt: natural(self.attempt),
            },
        }
    }
}

#[derive(QueryableByName)]
pub(crate) struct ClaimRow {
    #[diesel(sql_type = SqlUuid)]
    run_id: Uuid,
    #[diesel(sql_type = SqlUuid)]
    owner_id: Uuid,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    of_workflow: Option<Uuid>,
    #[diesel(sql_type = Int4)]
    attempt_number: i32,
    #[diesel(sql_type = Json)]
    run_graph: JsonText,
    #[diesel(sql_type = Int4)]
    graph_nodes: i32,
    #[diesel(sql_type = Array<SqlUuid>)]
    needed_loras: Vec<Uuid>,
    #[diesel(sql_type = Nullable<Text>)]
    earlier_prompt_id: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    earlier_backend: Option<String>,
}

impl ClaimRow {
    pub(crate) fn into_claim(self, token: ClaimToken) -> ClaimedRun {
        ClaimedRun {
            token,
            run_id: self.run_id.into(),
            user_id: self.owner_id.into(),
            workflow_id: self.of_workflow.map(Into::into),
            attempt: natural(self.attempt_number),
            graph: GraphJson::from_trusted(self.run_graph.0),
            nodes_total: natural(self.graph_nodes),
            lora_ids: self.needed_loras.into_iter().map(Into::into).collect(),
            comfyui_prompt_id: self.earlier_prompt_id,
            earlier_backend: self.earlier_backend,
        }
    }
}
