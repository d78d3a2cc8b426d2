//! Runs, from the workers' side.

use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::ids::{ClaimToken, RunId};
use atelier_domain::output::RunOutput;
use atelier_domain::ports::{
    ClaimRequest, ClaimedRun, Heartbeat, QueueError, ReleaseReason, RepoError, RunQueue, RunReport,
};
use atelier_domain::run::{
    RunFailure, RunFailureCode, RunStatus, RunTransition, TransitionRefused,
};
use diesel::QueryResult;
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{BigInt, Bool, Interval, Json, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use serde_json::json;

use crate::json_text::JsonText;
use crate::queue_rows::{ClaimRow, HeartbeatRow, Held, HeldRow, QueueRow};
use crate::queue_statements::{
    CLAIM, EXPIRED, FINISH, HEARTBEAT, HELD, LET_GO, SOMEBODY_WAITS, interval, report_statement,
};
use crate::run_rows::{outputs_json, storable};
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

/// How an attempt to claim ended.
enum Attempt {
    Claimed(ClaimedRun),
    NothingWaits,
    InOtherHands,
}
