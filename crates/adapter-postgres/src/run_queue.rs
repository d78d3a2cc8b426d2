//! Runs, from the workers' side.

use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::ids::{ClaimToken, LoraId, RunId};
use atelier_domain::output::RunOutput;
use atelier_domain::ports::{
    BackendReport, ClaimOutcome, ClaimRequest, Heartbeat, QueueError, QueueFigures, ReleaseReason,
    RepoError, RunQueue, RunReport,
};
use atelier_domain::run::{RunFailure, RunStatus, RunTransition, TransitionRefused};
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{
    Array, BigInt, Bool, Int4, Interval, Json, Nullable, Text, Uuid as SqlUuid,
};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;
use serde_json::json;
use uuid::Uuid;

use crate::giving_back::{free, let_go, time_out};
use crate::idempotency::KEPT;
use crate::json_text::JsonText;
use crate::queue_rows::{
    ClaimRow, FiguresRow, HeartbeatRow, Held, HeldRow, IdRow, OverdueRow, QueueRow, StrandedRow,
};
use crate::queue_statements::{
    ADOPT, CLAIM, EXPIRED, FIGURES, FINISH, FORGET_ANSWERS, HEARTBEAT, HELD, OVERDUE,
    SOMEBODY_WAITS, STRANDED, STRAYS, TELL_BACKEND, TELL_LORAS, checkpoint, interval,
    report_statement,
};
use crate::run_rows::{integer, outputs_json, storable};
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`RunQueue`].
#[derive(Clone, Debug)]
pub struct PgRunQueue {
    store: PgStore,
}

/// How long a claim goes on trying while others hold everything that waits: many times what one of them takes.
const CONTENTION: Duration = Duration::from_secs(2);
const FIRST_PAUSE: Duration = Duration::from_millis(1);
const LAST_PAUSE: Duration = Duration::from_millis(20);

impl PgRunQueue {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }

    async fn try_claim(&self, request: &ClaimRequest) -> Result<Attempt, QueueError> {
        let claim = Statement::new(CLAIM)
            .bind::<SqlUuid, _>(request.token.as_uuid())
            .bind::<Text, _>(storable(&request.worker))
            .bind::<Text, _>(storable(&request.backend))
            .bind::<Interval, _>(interval(request.lease))
            .bind::<Int4, _>(integer(request.max_in_flight))
            .bind::<Interval, _>(interval(request.affinity))
            .bind::<Nullable<Int4>, _>(request.max_running.map(integer));
        let somebody_waits = Statement::new(SOMEBODY_WAITS)
            .bind::<Text, _>(storable(&request.backend))
            .bind::<BigInt, _>(i64::from(request.max_in_flight))
            .bind::<Nullable<Int4>, _>(request.max_running.map(integer));
        Ok(self
            .store
            .transact(Role::Service, |mut connection| {
                async move {
                    let row: Option<ClaimRow> =
                        claim.get_result(&mut connection).await.optional()?;
                    if let Some(row) = row {
                        return Ok(Attempt::Answered(Box::new(row)));
                    }
                    let queue: QueueRow = somebody_waits.get_result(&mut connection).await?;
                    Ok(if queue.somebody_waits {
                        Attempt::InOtherHands
                    } else {
                        Attempt::NothingWaits
                    })
                }
                .boxed()
            })
            .await?)
    }

    /// Carries out a statement that answers nothing; says how many rows it changed.
    async fn execute(&self, statement: Statement) -> Result<u64, QueueError> {
        let changed = self
            .store
            .transact(Role::Service, |mut connection| {
                async move { statement.execute(&mut connection).await }.boxed()
            })
            .await?;
        Ok(changed as u64)
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
    async fn claim(&self, request: ClaimRequest) -> Result<ClaimOutcome, QueueError> {
        let begun = tokio::time::Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_claim(&request).await? {
                Attempt::Answered(row) => return Ok(row.into_outcome(request.token)?),
                Attempt::NothingWaits => return Ok(ClaimOutcome::Nothing),
                Attempt::InOtherHands if begun.elapsed() > CONTENTION => {
                    return Ok(ClaimOutcome::Nothing);
                }
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
        let changed = self.execute(report_statement(run, token, report)).await?;
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
                    for run in &runs {
                        let reason = ReleaseReason::WorkerLost;
                        let_go(connection, run, run.release(reason), reason).await?;
                    }
                    Ok(runs.into_iter().map(|run| run.id.into()).collect())
                }
                .boxed()
            })
            .await?;
        Ok(recovered)
    }

    async fn free_stranded(
        &self,
        patience: Duration,
        limit: u16,
    ) -> Result<Vec<RunId>, QueueError> {
        let stranded = Statement::new(STRANDED)
            .bind::<Interval, _>(interval(patience))
            .bind::<BigInt, _>(i64::from(limit));
        let freed = self
            .store
            .transact(Role::Service, |mut connection| {
                async move {
                    let runs: Vec<StrandedRow> = stranded.load(&mut connection).await?;
                    for run in &runs {
                        free(connection, run).await?;
                    }
                    Ok(runs.into_iter().map(|run| run.id.into()).collect())
                }
                .boxed()
            })
            .await?;
        Ok(freed)
    }

    async fn time_out_overdue(&self, limit: u16) -> Result<Vec<RunId>, QueueError> {
        let overdue = Statement::new(OVERDUE).bind::<BigInt, _>(i64::from(limit));
        let ended = self
            .store
            .transact(Role::Service, |mut connection| {
                async move {
                    let runs: Vec<OverdueRow> = overdue.load(&mut connection).await?;
                    for run in &runs {
                        time_out(connection, run).await?;
                    }
                    Ok(runs.into_iter().map(|run| run.id.into()).collect())
                }
                .boxed()
            })
            .await?;
        Ok(ended)
    }

    async fn strays(&self, backend: &str, found: Vec<RunId>) -> Result<Vec<RunId>, QueueError> {
        let found: Vec<Uuid> = found.into_iter().map(RunId::as_uuid).collect();
        let about = |sql| {
            Statement::new(sql)
                .bind::<Text, _>(storable(backend))
                .bind::<Array<SqlUuid>, _>(found.clone())
        };
        let (adopt, strays) = (about(ADOPT), about(STRAYS));
        let strays: Vec<IdRow> = self
            .store
            .transact(Role::Service, |mut connection| {
                async move {
                    adopt.execute(&mut connection).await?;
                    strays.load(&mut connection).await
                }
                .boxed()
            })
            .await?;
        Ok(strays.into_iter().map(|run| run.id.into()).collect())
    }

    async fn tell_backend(&self, report: BackendReport) -> Result<(), QueueError> {
        let takes_some = report.answers && report.max_in_flight > 0;
        let statement = Statement::new(TELL_BACKEND)
            .bind::<Text, _>(storable(&report.backend))
            .bind::<Text, _>(storable(&report.worker))
            .bind::<Bool, _>(takes_some)
            .bind::<Int4, _>(integer(report.max_in_flight.max(1)))
            .bind::<Int4, _>(integer(report.foreign_prompts))
            .bind::<Nullable<Text>, _>(checkpoint(report.checkpoint));
        self.execute(statement).await.map(drop)
    }

    async fn tell_loras(&self, backend: &str, loras: Vec<LoraId>) -> Result<(), QueueError> {
        let loras: Vec<Uuid> = loras.into_iter().map(LoraId::as_uuid).collect();
        let statement = Statement::new(TELL_LORAS)
            .bind::<Text, _>(storable(backend))
            .bind::<Array<SqlUuid>, _>(loras);
        self.execute(statement).await.map(drop)
    }

    async fn forget_answers(&self, limit: u16) -> Result<u64, QueueError> {
        let statement = Statement::new(FORGET_ANSWERS)
            .bind::<Interval, _>(interval(KEPT))
            .bind::<BigInt, _>(i64::from(limit));
        self.execute(statement).await
    }

    async fn figures(&self) -> Result<QueueFigures, RepoError> {
        let row: FiguresRow = self
            .store
            .transact(Role::Service, |mut connection| {
                async move { Statement::new(FIGURES).get_result(&mut connection).await }.boxed()
            })
            .await?;
        Ok(row.into())
    }
}

fn defect(refused: TransitionRefused) -> QueueError {
    QueueError::Repo(RepoError::Backend(Box::new(refused)))
}

/// How an attempt to claim ended.
enum Attempt {
    Answered(Box<ClaimRow>),
    NothingWaits,
    InOtherHands,
}
