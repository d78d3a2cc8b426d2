//! The statements of the run queue.

use std::time::Duration;

use atelier_domain::ids::{ClaimToken, RunId};
use atelier_domain::ports::RunReport;
use atelier_domain::run::{RunPhase, RunProgress};
use diesel::pg::data_types::PgInterval;
use diesel::sql_types::{Bool, Double, Int4, Nullable, Text, Uuid as SqlUuid};

use crate::run_rows::{integer, storable};
use crate::statement::Statement;

pub(crate) const CLAIM: &str = "select * from atelier.claim_run($1, $2, $3, $4)";

/// Whether a claim of nothing may be one of something when it is tried again.
pub(crate) const SOMEBODY_WAITS: &str = "\
    select exists (select from public.comfyui_users where has_pending) as somebody_waits";

pub(crate) const HEARTBEAT: &str = "\
    update public.comfyui_workflow_runs set lease_until = clock_timestamp() + $3 \
    where id = $1 and claim_token = $2 \
    returning cancel_requested_at is not null as cancel_requested";

/// From the phase `submitting` on, the run may be alive on its backend whatever becomes of the worker.
pub(crate) const REPORT: &str = "\
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

pub(crate) const FINISH: &str = "select atelier.finish_run($1, $2, $3, $4, $5) as held";

pub(crate) const HELD: &str = "\
    select id, attempt, cancel_requested_at is not null as cancel_requested, \
      lives_on is not null or comfyui_prompt_id is not null as may_live \
    from public.comfyui_workflow_runs where id = $1 and claim_token = $2 for no key update";

/// In the order of owners, so that two that do this at once lock the owners' counts in the same order.
pub(crate) const EXPIRED: &str = "\
    select id, attempt, cancel_requested, may_live from ( \
      select id, user_id, attempt, cancel_requested_at is not null as cancel_requested, \
        lives_on is not null or comfyui_prompt_id is not null as may_live \
      from public.comfyui_workflow_runs \
      where status = 'running' and lease_until < clock_timestamp() \
      order by lease_until limit $1 for no key update skip locked \
    ) as expired order by user_id, id";

pub(crate) const LET_GO: &str = "\
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

pub(crate) fn report_statement(run: RunId, token: ClaimToken, report: RunReport) -> Statement {
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

/// A lease as the database adds it to its own clock: the workers' clocks decide nothing.
pub(crate) fn interval(duration: Duration) -> PgInterval {
    let micros = i64::try_from(duration.as_micros()).unwrap_or(i64::MAX);
    PgInterval::from_microseconds(micros)
}
