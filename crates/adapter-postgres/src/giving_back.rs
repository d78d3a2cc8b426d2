//! How a run leaves the hands of a worker or a backend: the domain decides where it goes, a statement takes it there.

use atelier_domain::ports::ReleaseReason;
use atelier_domain::run::{RunFailure, RunLoss, RunStatus, RunTransition, TransitionRefused};
use diesel::QueryResult;
use diesel::sql_types::{Bool, Int4, Nullable, Text, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};

use crate::queue_rows::{HeldRow, OverdueRow, StrandedRow};
use crate::queue_statements::{FREE, LET_GO, TIME_OUT};
use crate::run_rows::natural;
use crate::statement::Statement;

/// Takes a run out of a worker's hands. The row is locked by this transaction.
pub(crate) async fn let_go(
    mut connection: &AsyncPgConnection,
    run: &HeldRow,
    transition: RunTransition,
    reason: ReleaseReason,
) -> QueryResult<RunStatus> {
    let status = RunStatus::Running.after(transition).map_err(refused)?;
    let failure = match transition {
        RunTransition::Lose { loss, count } if status == RunStatus::Failed => {
            Some(RunFailure::exhausted(loss, count))
        }
        _ => None,
    };
    let lost = |loss| {
        i32::from(matches!(transition, RunTransition::Lose { loss: lost, .. } if lost == loss))
    };
    Statement::new(LET_GO)
        .bind::<SqlUuid, _>(run.id)
        .bind::<Text, _>(status.as_str())
        .bind::<Bool, _>(transition == RunTransition::HandOver)
        .bind::<Bool, _>(reason.may_live())
        .bind::<Bool, _>(status.is_final())
        .bind::<Nullable<Text>, _>(failure.as_ref().map(|failure| failure.code.as_str()))
        .bind::<Nullable<Text>, _>(failure.map(|failure| failure.message))
        .bind::<Int4, _>(lost(RunLoss::Worker))
        .bind::<Int4, _>(lost(RunLoss::Backend))
        .bind::<Int4, _>(lost(RunLoss::Execution))
        .execute(&mut connection)
        .await?;
    Ok(status)
}

/// Leaves a run to every backend; one whose owner wants no more of it ends, as nobody can stop it any more.
pub(crate) async fn free(mut connection: &AsyncPgConnection, run: &StrandedRow) -> QueryResult<()> {
    let status = if run.cancel_requested {
        RunStatus::Pending
            .after(RunTransition::Cancel)
            .map_err(refused)?
    } else {
        RunStatus::Pending
    };
    Statement::new(FREE)
        .bind::<SqlUuid, _>(run.id)
        .bind::<Text, _>(status.as_str())
        .bind::<Bool, _>(status.is_final())
        .execute(&mut connection)
        .await
        .map(drop)
}

pub(crate) async fn time_out(
    mut connection: &AsyncPgConnection,
    run: &OverdueRow,
) -> QueryResult<()> {
    let status = RunStatus::Pending
        .after(RunTransition::TimeOut)
        .map_err(refused)?;
    let failure = RunFailure::timed_out(natural(run.timeout_seconds).into());
    Statement::new(TIME_OUT)
        .bind::<SqlUuid, _>(run.id)
        .bind::<Text, _>(status.as_str())
        .bind::<Text, _>(failure.code.as_str())
        .bind::<Text, _>(failure.message)
        .execute(&mut connection)
        .await
        .map(drop)
}

fn refused(transition: TransitionRefused) -> diesel::result::Error {
    diesel::result::Error::QueryBuilderError(Box::new(transition))
}
