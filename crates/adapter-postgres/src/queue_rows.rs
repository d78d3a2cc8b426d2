//! What the statements of the run queue answer.

use std::time::Duration;

use atelier_domain::graph::GraphJson;
use atelier_domain::ids::ClaimToken;
use atelier_domain::ports::{ClaimOutcome, ClaimedRun, QueueFigures, ReleaseReason, RepoError};
use atelier_domain::run::{RunLoss, RunProgress, RunTransition};
use diesel::QueryableByName;
use diesel::pg::data_types::PgInterval;
use diesel::sql_types::{
    Array, BigInt, Bool, Double, Int4, Interval, Json, Nullable, Text, Uuid as SqlUuid,
};
use uuid::Uuid;

use crate::json_text::JsonText;
use crate::run_rows::{large_natural, natural};

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
pub(crate) struct IdRow {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) id: Uuid,
}

/// A run that waits for one backend alone.
#[derive(QueryableByName)]
pub(crate) struct StrandedRow {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) id: Uuid,
    #[diesel(sql_type = Bool)]
    pub(crate) cancel_requested: bool,
}

/// A run that waits and has no time left.
#[derive(QueryableByName)]
pub(crate) struct OverdueRow {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) id: Uuid,
    #[diesel(sql_type = Int4)]
    pub(crate) timeout_seconds: i32,
}

#[derive(QueryableByName)]
pub(crate) struct HeldRow {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) id: Uuid,
    #[diesel(sql_type = Int4)]
    lost_workers: i32,
    #[diesel(sql_type = Int4)]
    lost_backends: i32,
    #[diesel(sql_type = Int4)]
    lost_executions: i32,
    #[diesel(sql_type = Bool)]
    cancel_requested: bool,
    #[diesel(sql_type = Bool)]
    was_submitted: bool,
}

impl HeldRow {
    /// What giving the run back comes to.
    pub(crate) fn release(&self, reason: ReleaseReason) -> RunTransition {
        // Whoever hands a run over has said whether it may live; a lost worker's word is the phase that it reported.
        let is_told = matches!(reason, ReleaseReason::HandOver { .. });
        let may_live = reason.may_live() && (is_told || self.was_submitted);
        if self.cancel_requested && !may_live {
            return RunTransition::Cancel;
        }
        match reason.loss() {
            None => RunTransition::HandOver,
            Some(loss) => RunTransition::Lose {
                loss,
                count: natural(match loss {
                    RunLoss::Worker => self.lost_workers,
                    RunLoss::Backend => self.lost_backends,
                    RunLoss::Execution => self.lost_executions,
                })
                .saturating_add(1),
            },
        }
    }
}

/// A run that was claimed; or, with nothing but `defer`, how long what waits is left to others.
#[derive(QueryableByName)]
pub(crate) struct ClaimRow {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    run_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    owner_id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    of_workflow: Option<Uuid>,
    #[diesel(sql_type = Nullable<Int4>)]
    attempt_number: Option<i32>,
    #[diesel(sql_type = Nullable<Json>)]
    run_graph: Option<JsonText>,
    #[diesel(sql_type = Nullable<Int4>)]
    graph_nodes: Option<i32>,
    #[diesel(sql_type = Nullable<Array<SqlUuid>>)]
    needed_loras: Option<Vec<Uuid>>,
    #[diesel(sql_type = Nullable<Text>)]
    resumes: Option<String>,
    #[diesel(sql_type = Nullable<Double>)]
    value: Option<f64>,
    #[diesel(sql_type = Nullable<Int4>)]
    done_nodes: Option<i32>,
    #[diesel(sql_type = Nullable<Int4>)]
    timeout: Option<i32>,
    #[diesel(sql_type = Nullable<Interval>)]
    remaining: Option<PgInterval>,
    #[diesel(sql_type = Nullable<Interval>)]
    defer: Option<PgInterval>,
    #[diesel(sql_type = Nullable<Array<SqlUuid>>)]
    needed_inputs: Option<Vec<Uuid>>,
    #[diesel(sql_type = Nullable<Text>)]
    of_trace: Option<String>,
}

impl ClaimRow {
    pub(crate) fn into_outcome(self, token: ClaimToken) -> Result<ClaimOutcome, RepoError> {
        if let Some(patience) = self.defer {
            return Ok(ClaimOutcome::Deferred(duration(patience)));
        }
        let claimed = || {
            let nodes_total = natural(self.graph_nodes?);
            Some(ClaimedRun {
                token,
                run_id: self.run_id?.into(),
                user_id: self.owner_id?.into(),
                workflow_id: self.of_workflow.map(Into::into),
                attempt: natural(self.attempt_number?),
                graph: GraphJson::from_trusted(self.run_graph?.0),
                nodes_total,
                lora_ids: self.needed_loras?.into_iter().map(Into::into).collect(),
                input_ids: self.needed_inputs?.into_iter().map(Into::into).collect(),
                trace_parent: self.of_trace,
                resumes: self.resumes,
                progress: RunProgress {
                    value: self.value?,
                    nodes_done: natural(self.done_nodes?),
                    nodes_total,
                    ..RunProgress::default()
                },
                timeout_s: natural(self.timeout?),
                remaining: duration(self.remaining?),
            })
        };
        claimed()
            .map(|run| ClaimOutcome::Claimed(Box::new(run)))
            .ok_or_else(|| RepoError::Backend("atelier.claim_run gave half a run".into()))
    }
}

#[derive(QueryableByName)]
pub(crate) struct FiguresRow {
    #[diesel(sql_type = BigInt)]
    waiting: i64,
    #[diesel(sql_type = Double)]
    oldest_seconds: f64,
    #[diesel(sql_type = BigInt)]
    running: i64,
}

impl From<FiguresRow> for QueueFigures {
    fn from(row: FiguresRow) -> Self {
        Self {
            waiting: large_natural(row.waiting),
            // The clock may have been set back.
            oldest: Duration::try_from_secs_f64(row.oldest_seconds).unwrap_or_default(),
            running: large_natural(row.running),
        }
    }
}

/// What is past is no time at all. A difference of two times has no months.
fn duration(interval: PgInterval) -> Duration {
    const DAY_MICROS: i64 = 86_400_000_000;
    let micros = i64::from(interval.days)
        .saturating_mul(DAY_MICROS)
        .saturating_add(interval.microseconds);
    Duration::from_micros(u64::try_from(micros).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_days_and_hours_is_as_long_as_both() {
        assert_eq!(
            duration(PgInterval::new(3_600_000_000, 2, 0)),
            Duration::from_hours(49)
        );
        assert_eq!(duration(PgInterval::new(-5, 0, 0)), Duration::ZERO);
    }
}
