//! Runs, from the workers' side.

use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::graph::GraphJson;
use atelier_domain::ids::{ClaimToken, RunId};
use atelier_domain::output::RunOutput;
use atelier_domain::ports::{
    ClaimRequest, ClaimedRun, Heartbeat, QueueError, ReleaseReason, RepoError, RunQueue, RunReport,
};
use atelier_domain::run::{
    RunFailure, RunFailureCode, RunPhase, RunProgress, RunStatus, RunTransition, TransitionRefused,
};
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{
    Array, BigInt, Bool, Double, Int4, Interval, Json, Nullable, Text, Uuid as SqlUuid,
};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use serde_json::json;
use uuid::Uuid;

use crate::json_text::JsonText;
use crate::run_rows::{integer, natural, outputs_json, storable};
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`RunQueue`].
#[derive(Clone, Debug)]
pub struct PgRunQueue {
    store: PgStore,
}

const CLAIM: &str = "select * from atelier.claim_run($1, $2, $3, $4)";

/// Whether a claim of nothing may be one of something when it is tried again.
const SOMEBODY_WAITS: &str = "\
    select exists (select from public.comfyui_users where has_pending) as somebody_waits";

/// How long a claim goes on trying while others hold everything that waits: many times what one of them takes.
const CONTENTION: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(20);

const HEARTBEAT: &str = "\
    update public.comfyui_workflow_runs set lease_until = clock_timestamp() + $3 \
    where id = $1 and claim_token = $2 \
    returning cancel_requested_at is not null as cancel_requested";

/// From the phase `submitting` on, the run may be alive on its backend whatever becomes of the worker.
const REPORT: &str = "\
    update public.comfyui_workflow_runs set \
      phase = coalesce($3, phase), \
      comfyui_prompt_id = coalesce($4, comfyui_prompt_id), \
      lives_on = case when $5 then backend else lives_on end, \
      progress = case when $6 then $7 else progress end, \
      nodes_done = case when $6 then $8 else nodes_done end, \
      nodes_reported = case when $6 then $9 else nodes_reported end, \
      current_node = case when $6 then $10 else current_node end, \
      step = case when $6 then $11 else step end, \
      steps = case when $6 then $12 else steps end \
    where id = $1 and claim_token = $2";

const FINISH: &str = "select atelier.finish_run($1, $2, $3, $4, $5) as held";

const HELD: &str = "\
    select id, attempt, cancel_requested_at is not null as cancel_requested, \
      lives_on is not null or comfyui_prompt_id is not null as may_live \
    from public.comfyui_workflow_runs where id = $1 and claim_token = $2 for no key update";

/// In the order of owners, so that two that do this at once lock the owners' counts in the same order.
const EXPIRED: &str = "\
    select id, attempt, cancel_requested, may_live from ( \
      select id, user_id, attempt, cancel_requested_at is not null as cancel_requested, \
        lives_on is not null or comfyui_prompt_id is not null as may_live \
      from public.comfyui_workflow_runs \
      where status = 'running' and lease_until < clock_timestamp() \
      order by lease_until limit $1 for no key update skip locked \
    ) as expired order by user_id, id";

const LET_GO: &str = "\
    update public.comfyui_workflow_runs set \
      status = $2, phase = null, claim_token = null, claimed_by = null, lease_until = null, \
      attempt = attempt - case when $3 then 1 else 0 end, \
      comfyui_prompt_id = case when $4 then null else comfyui_prompt_id end, \
      lives_on = case when $4 then null else lives_on end, \
      earlier_backend = case when $4 then null else backend end, \
      backend = null, \
      progress = 0, nodes_done = 0, nodes_reported = null, current_node = null, step = null, steps = null, \
      completed_at = case when $5 then clock_timestamp() end, \
      error_code = $6, error_message = $7 \
    where id = $1";

impl PgRunQueue {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }

    async fn try_claim(&self, request: &ClaimRequest) -> Result<Attempt, QueueError> {
        let claim = Statement::new(CLAIM)
            .bind::<SqlUuid, _>(request.token.as_uuid())
            .bind::<Text, _>(storable(&request.worker))
            .bind::<Text, _>(storable(&request.backend))
            .bind::<Interval, _>(interval(request.lease));
        let token = request.token;
        let attempt = self
            .store
            .transact(Role::Service, |mut connection| {
                async move {
                    let row: Option<ClaimRow> =
                        claim.get_result(&mut connection).await.optional()?;
                    if let Some(row) = row {
                        return Ok(Attempt::Claimed(row.into_claim(token)));
                    }
                    let queue: QueueRow = Statement::new(SOMEBODY_WAITS)
                        .get_result(&mut connection)
                        .await?;
                    Ok(if queue.somebody_waits {
                        Attempt::InOtherHands
                    } else {
                        Attempt::NothingWaits
                    })
                }
                .boxed()
            })
            .await?;
        Ok(attempt)
    }

    /// Ends a run under a claim.
    async fn finish(
        &self,
        run: RunId,
        token: ClaimToken,
        transition: RunTransition,
        failure: Option<RunFailure>,
        outputs: &[RunOutput],
    ) -> Result<(), QueueError> {
        let status = RunStatus::Running.after(transition).map_err(defect)?;
        let failure = failure.map(|failure| {
            JsonText::of(&json!({
                "code": failure.code.as_str(),
                "message": storable(&failure.message),
                "node_id": failure.node_id.as_deref().map(storable),
                "node_type": failure.node_type.as_deref().map(storable),
            }))
        });
        let statement = Statement::new(FINISH)
            .bind::<SqlUuid, _>(run.as_uuid())
            .bind::<SqlUuid, _>(token.as_uuid())
            .bind::<Text, _>(status.as_str())
            .bind::<Nullable<Json>, _>(failure)
            .bind::<Json, _>(outputs_json(outputs));
        let Held { held } = self
            .store
            .transact(Role::Service, |mut connection| {
                async move { statement.get_result(&mut connection).await }.boxed()
            })
            .await?;
        if held {
            Ok(())
        } else {
            Err(QueueError::ClaimLost)
        }
    }
}

#[async_trait]
impl RunQueue for PgRunQueue {
    async fn claim(&self, request: ClaimRequest) -> Result<Option<ClaimedRun>, QueueError> {
        let begun = tokio::time::Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_claim(&request).await? {
                Attempt::Claimed(run) => return Ok(Some(run)),
                Attempt::NothingWaits => return Ok(None),
                Attempt::InOtherHands if begun.elapsed() > CONTENTION => return Ok(None),
                Attempt::InOtherHands => {
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }

    async fn heartbeat(
        &self,
        run: RunId,
        token: ClaimToken,
        lease: Duration,
    ) -> Result<Heartbeat, QueueError> {
        let statement = Statement::new(HEARTBEAT)
            .bind::<SqlUuid, _>(run.as_uuid())
            .bind::<SqlUuid, _>(token.as_uuid())
            .bind::<Interval, _>(interval(lease));
        let row: Option<HeartbeatRow> = self
            .store
            .transact(Role::Service, |mut connection| {
                async move { statement.get_result(&mut connection).await.optional() }.boxed()
            })
            .await?;
        row.map(|row| Heartbeat {
            cancel_requested: row.cancel_requested,
        })
        .ok_or(QueueError::ClaimLost)
    }

    async fn report(
        &self,
        run: RunId,
        token: ClaimToken,
        report: RunReport,
    ) -> Result<(), QueueError> {
        let statement = report_statement(run, token, report);
        let changed = self
            .store
            .transact(Role::Service, |mut connection| {
                async move { statement.execute(&mut connection).await }.boxed()
            })
            .await?;
        if changed > 0 {
            Ok(())
        } else {
            Err(QueueError::ClaimLost)
        }
    }

    async fn complete(
        &self,
        run: RunId,
        token: ClaimToken,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError> {
        self.finish(run, token, RunTransition::Complete, None, &outputs)
            .await
    }

    async fn fail(
        &self,
        run: RunId,
        token: ClaimToken,
        failure: RunFailure,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError> {
        self.finish(run, token, RunTransition::Fail, Some(failure), &outputs)
            .await
    }

    async fn cancelled(
        &self,
        run: RunId,
        token: ClaimToken,
        outputs: Vec<RunOutput>,
    ) -> Result<(), QueueError> {
        self.finish(run, token, RunTransition::Cancel, None, &outputs)
            .await
    }

    async fn release(
        &self,
        run: RunId,
        token: ClaimToken,
        reason: ReleaseReason,
    ) -> Result<RunStatus, QueueError> {
        let held = Statement::new(HELD)
            .bind::<SqlUuid, _>(run.as_uuid())
            .bind::<SqlUuid, _>(token.as_uuid());
        self.store
            .transact(Role::Service, |mut connection| {
                async move {
                    let Some(run) = held
                        .get_result::<HeldRow>(&mut connection)
                        .await
                        .optional()?
                    else {
                        return Ok(None);
                    };
                    let transition = run.release(reason);
                    let_go(connection, &run, transition, reason).await.map(Some)
                }
                .boxed()
            })
            .await?
            .ok_or(QueueError::ClaimLost)
    }

    async fn recover_expired(&self, limit: u16) -> Result<Vec<RunId>, QueueError> {
        let expired = Statement::new(EXPIRED).bind::<BigInt, _>(i64::from(limit));
        let recovered = self
            .store
            .transact(Role::Service, |mut connection| {
                async move {
                    let runs: Vec<HeldRow> = expired.load(&mut connection).await?;
                    let mut recovered = Vec::with_capacity(runs.len());
                    for run in runs {
                        let reason = ReleaseReason::WorkerLost;
                        let transition = if run.cancel_requested && !run.may_live {
                            RunTransition::Cancel
                        } else {
                            run.release(reason)
                        };
                        let_go(connection, &run, transition, reason).await?;
                        recovered.push(run.id.into());
                    }
                    Ok(recovered)
                }
                .boxed()
            })
            .await?;
        Ok(recovered)
    }
}

fn report_statement(run: RunId, token: ClaimToken, report: RunReport) -> Statement {
    let submitted = report.comfyui_prompt_id.is_some()
        || report
            .phase
            .is_some_and(|phase| phase >= RunPhase::Submitting);
    let has_progress = report.progress.is_some();
    let progress = report.progress.unwrap_or_default();
    Statement::new(REPORT)
        .bind::<SqlUuid, _>(run.as_uuid())
        .bind::<SqlUuid, _>(token.as_uuid())
        .bind::<Nullable<Text>, _>(report.phase.map(RunPhase::as_str))
        .bind::<Nullable<Text>, _>(report.comfyui_prompt_id.as_deref().map(storable))
        .bind::<Bool, _>(submitted)
        .bind::<Bool, _>(has_progress)
        .bind::<Double, _>(fraction(&progress))
        .bind::<Int4, _>(integer(progress.nodes_done))
        .bind::<Int4, _>(integer(progress.nodes_total))
        .bind::<Nullable<Text>, _>(progress.current_node.as_deref().map(storable))
        .bind::<Nullable<Int4>, _>(progress.step.map(integer))
        .bind::<Nullable<Int4>, _>(progress.steps.map(integer))
}

/// What is no number from 0 to 1 must not lose a run.
fn fraction(progress: &RunProgress) -> f64 {
    if progress.value.is_nan() {
        0.0
    } else {
        progress.value.clamp(0.0, 1.0)
    }
}

/// Takes a run out of a worker's hands. The row is locked by this transaction.
async fn let_go(
    mut connection: &AsyncPgConnection,
    run: &HeldRow,
    transition: RunTransition,
    reason: ReleaseReason,
) -> QueryResult<RunStatus> {
    let status = RunStatus::Running
        .after(transition)
        .map_err(|refused| diesel::result::Error::QueryBuilderError(Box::new(refused)))?;
    let failure = (status == RunStatus::Failed).then(|| {
        let attempts = run.attempt;
        RunFailure::new(
            RunFailureCode::AttemptsExhausted,
            format!("The run was begun {attempts} times, and each time its worker or its backend was lost."),
        )
    });
    Statement::new(LET_GO)
        .bind::<SqlUuid, _>(run.id)
        .bind::<Text, _>(status.as_str())
        .bind::<Bool, _>(transition == RunTransition::HandOver)
        .bind::<Bool, _>(reason == ReleaseReason::BackendLost)
        .bind::<Bool, _>(status.is_final())
        .bind::<Nullable<Text>, _>(failure.as_ref().map(|failure| failure.code.as_str()))
        .bind::<Nullable<Text>, _>(failure.map(|failure| failure.message))
        .execute(&mut connection)
        .await?;
    Ok(status)
}

fn defect(refused: TransitionRefused) -> QueueError {
    QueueError::Repo(RepoError::Backend(Box::new(refused)))
}

/// A lease as the database adds it to its own clock: the workers' clocks decide nothing.
fn interval(duration: Duration) -> diesel::pg::data_types::PgInterval {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    diesel::pg::data_types::PgInterval::from_microseconds(micros)
}

/// How an attempt to claim ended.
enum Attempt {
    Claimed(ClaimedRun),
    NothingWaits,
    InOtherHands,
}

#[derive(QueryableByName)]
struct QueueRow {
    #[diesel(sql_type = Bool)]
    somebody_waits: bool,
}

#[derive(QueryableByName)]
struct Held {
    #[diesel(sql_type = Bool)]
    held: bool,
}

#[derive(QueryableByName)]
struct HeartbeatRow {
    #[diesel(sql_type = Bool)]
    cancel_requested: bool,
}

#[derive(QueryableByName)]
struct HeldRow {
    #[diesel(sql_type = SqlUuid)]
    id: Uuid,
    #[diesel(sql_type = Int4)]
    attempt: i32,
    #[diesel(sql_type = Bool)]
    cancel_requested: bool,
    #[diesel(sql_type = Bool)]
    may_live: bool,
}

impl HeldRow {
    fn release(&self, reason: ReleaseReason) -> RunTransition {
        match reason {
            ReleaseReason::HandOver => RunTransition::HandOver,
            ReleaseReason::WorkerLost | ReleaseReason::BackendLost => RunTransition::Release {
                attempt: natural(self.attempt),
            },
        }
    }
}

#[derive(QueryableByName)]
struct ClaimRow {
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
    fn into_claim(self, token: ClaimToken) -> ClaimedRun {
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
