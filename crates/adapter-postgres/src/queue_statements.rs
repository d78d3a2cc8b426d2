//! The statements of the run queue.

use std::time::Duration;

use atelier_domain::ids::{ClaimToken, RunId};
use atelier_domain::ports::RunReport;
use atelier_domain::run::{RunPhase, RunProgress};
use diesel::pg::data_types::PgInterval;
use diesel::sql_types::{BigInt, Bool, Double, Int4, Nullable, Text, Uuid as SqlUuid};

use crate::run_rows::{integer, large_integer, storable};
use crate::statement::Statement;

pub(crate) const CLAIM: &str = "select * from atelier.claim_run($1, $2, $3, $4, $5, $6, $7)";

/// Whether a claim of nothing may be one of something when it is tried again; never for a backend that is full.
pub(crate) const SOMEBODY_WAITS: &str = "\
    select exists (select from public.comfyui_users as person where person.has_waiting \
        and ($3 is null or $3 > (select count(*) from public.comfyui_workflow_runs as own \
          where own.user_id = person.id and own.status = 'running'))) \
      and (select count(*) from public.comfyui_workflow_runs where status = 'running' and backend = $1) < $2 \
      as somebody_waits";

pub(crate) const FIGURES: &str = "select * from atelier.queue_figures()";

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
      steps = case when $6 then $12 else steps end, \
      lora_bytes_done = case when $6 then $13 else lora_bytes_done end, \
      lora_bytes_total = case when $6 then $14 else lora_bytes_total end \
    where id = $1 and claim_token = $2";

pub(crate) const FINISH: &str = "select atelier.finish_run($1, $2, $3, $4, $5) as held";

/// What [`HeldRow`](crate::queue_rows::HeldRow) reads.
macro_rules! held_columns {
    () => {
        "id, lost_workers, lost_backends, lost_executions, cancel_requested_at is not null as cancel_requested, \
         lives_on is not null as was_submitted"
    };
}

pub(crate) const HELD: &str = concat!(
    "select ",
    held_columns!(),
    " from public.comfyui_workflow_runs where id = $1 and claim_token = $2 for no key update"
);

/// In the order of owners, so that two that do this at once lock the owners' counts in the same order.
pub(crate) const EXPIRED: &str = concat!(
    "select * from (select user_id, ",
    held_columns!(),
    " from public.comfyui_workflow_runs \
      where status = 'running' and lease_until < clock_timestamp() \
      order by lease_until limit $1 for no key update skip locked \
    ) as expired order by user_id, id"
);

/// `$3`: it costs no attempt; `$4`: its backend may have it still, so its progress counts; `$8` to `$10`: what it lost.
pub(crate) const LET_GO: &str = "\
    update public.comfyui_workflow_runs set \
      status = $2, phase = null, claim_token = null, claimed_by = null, lease_until = null, \
      attempt = attempt - case when $3 then 1 else 0 end, \
      comfyui_prompt_id = case when $4 then comfyui_prompt_id end, \
      lives_on = case when $4 then backend end, \
      waiting_since = clock_timestamp(), \
      backend = null, \
      progress = case when $4 then progress else 0 end, \
      nodes_done = case when $4 then nodes_done else 0 end, \
      nodes_reported = case when $4 then nodes_reported end, \
      current_node = null, step = null, steps = null, lora_bytes_done = null, lora_bytes_total = null, \
      completed_at = case when $5 then clock_timestamp() end, \
      error_code = $6, error_message = $7, \
      lost_workers = lost_workers + $8, lost_backends = lost_backends + $9, \
      lost_executions = lost_executions + $10 \
    where id = $1";

pub(crate) const STRANDED: &str = "\
    select id, cancel_requested from ( \
      select id, user_id, cancel_requested_at is not null as cancel_requested \
      from public.comfyui_workflow_runs \
      where status = 'pending' and lives_on is not null and waiting_since < clock_timestamp() - $1 \
      order by waiting_since limit $2 for no key update skip locked \
    ) as stranded order by user_id, id";

pub(crate) const FREE: &str = "\
    update public.comfyui_workflow_runs set \
      status = $2, completed_at = case when $3 then clock_timestamp() end, \
      abandoned_on = case when lives_on = any (abandoned_on) then abandoned_on \
        else array_append(abandoned_on, lives_on) end, \
      comfyui_prompt_id = null, lives_on = null, progress = 0, nodes_done = 0, nodes_reported = null \
    where id = $1";

pub(crate) const OVERDUE: &str = "\
    select id, timeout_seconds from ( \
      select id, user_id, timeout_seconds from public.comfyui_workflow_runs \
      where status = 'pending' and started_at is not null \
        and started_at + make_interval(secs => timeout_seconds) < clock_timestamp() \
      order by started_at limit $1 for no key update skip locked \
    ) as overdue order by user_id, id";

pub(crate) const TIME_OUT: &str = "\
    update public.comfyui_workflow_runs set \
      status = $2, completed_at = clock_timestamp(), error_code = $3, error_message = $4 \
    where id = $1";

/// In the order of owners: see [`EXPIRED`].
pub(crate) const ADOPT: &str = "\
    update public.comfyui_workflow_runs as run set lives_on = $1, waiting_since = clock_timestamp() \
    from ( \
      select id from public.comfyui_workflow_runs \
      where id = any ($2) and status = 'pending' and lives_on is null order by user_id, id for no key update \
    ) as found where run.id = found.id";

/// Another backend's run is a stray only where it was given up on this one: the same ComfyUI may be known under another
/// name.
pub(crate) const STRAYS: &str = "\
    select id from public.comfyui_workflow_runs \
    where id = any ($2) and case status \
      when 'running' then backend is distinct from $1 and $1 = any (abandoned_on) \
      when 'pending' then lives_on <> $1 and $1 = any (abandoned_on) \
      else true end";

/// Words of workers that are long gone are forgotten along the way.
pub(crate) const TELL_BACKEND: &str = "\
    with gone as ( \
      delete from public.comfyui_backends as old where (old.name, old.worker) in ( \
        select name, worker from public.comfyui_backends \
        where told_at < clock_timestamp() - interval '1 hour' and (name, worker) <> ($1, $2) \
        for update skip locked \
      ) \
    ) \
    insert into public.comfyui_backends \
      (name, worker, answers, max_in_flight, foreign_prompts, checkpoint, told_at) \
    values ($1, $2, $3, $4, $5, $6, clock_timestamp()) \
    on conflict (name, worker) do update set \
      answers = excluded.answers, max_in_flight = excluded.max_in_flight, \
      foreign_prompts = excluded.foreign_prompts, checkpoint = excluded.checkpoint, told_at = excluded.told_at";

/// Those that were deleted meanwhile are left out.
pub(crate) const TELL_LORAS: &str = "\
    insert into public.comfyui_lora_copies (lora_id, backend) \
    select there.id, $1 from ( \
      select id from public.comfyui_lora_models where id = any ($2) order by id for key share \
    ) as there \
    on conflict (lora_id, backend) do update set seen_at = excluded.seen_at";

pub(crate) const FORGET_ANSWERS: &str = "\
    delete from public.comfyui_idempotency_keys where (user_id, method, path, key) in ( \
      select user_id, method, path, key from public.comfyui_idempotency_keys \
      where created_at < clock_timestamp() - $1 order by created_at limit $2 for update skip locked \
    )";

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
        .bind::<Nullable<BigInt>, _>(progress.lora_bytes_done.map(large_integer))
        .bind::<Nullable<BigInt>, _>(progress.lora_bytes_total.map(large_integer))
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
    // A thousand years from now is a time that the database knows.
    const LONGEST: Duration = Duration::from_hours(1_000 * 365 * 24);
    let micros = i64::try_from(duration.min(LONGEST).as_micros()).unwrap_or(i64::MAX);
    PgInterval::from_microseconds(micros)
}

/// A checkpoint's name, if it can be one: it comes out of a graph, which holds what anybody wrote.
pub(crate) fn checkpoint(name: Option<String>) -> Option<String> {
    const LONGEST: usize = 1_000;
    name.filter(|name| name.chars().count() <= LONGEST && !name.contains('\0'))
}
