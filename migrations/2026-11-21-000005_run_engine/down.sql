drop function atelier.enqueue_run(uuid, uuid, json, json, integer, uuid[], text, smallint, integer, uuid,
  timestamptz, bigint, text, text, text, text, interval, smallint, text, text);
drop function atelier.lock_own_queue();
drop function atelier.earlier_request(text, text, text, text, interval);
drop function atelier.idempotency_lock(uuid, text, text, text);
drop table public.comfyui_idempotency_keys;
drop function atelier.queue_outlook(uuid);
revoke usage on schema atelier from authenticated;
drop function atelier.claim_run(uuid, text, text, interval, integer, interval);
drop table public.comfyui_lora_copies;
drop table public.comfyui_backends;

create or replace function atelier.record_run_change() returns trigger
language plpgsql security definer set search_path = '' as $function$
begin
  if new.status <> old.status and new.status = 'running' then
    new.event_count := new.event_count + 1;
    insert into public.comfyui_run_events (run_id, sequence, user_id, kind, data)
      values (new.id, new.event_count, new.user_id, 'status',
        json_build_object('status', new.status, 'attempt', new.attempt));
  end if;
  if new.phase is distinct from old.phase and new.phase is not null then
    new.event_count := new.event_count + 1;
    insert into public.comfyui_run_events (run_id, sequence, user_id, kind, data)
      values (new.id, new.event_count, new.user_id, 'phase', json_build_object('phase', new.phase));
  end if;
  if new.status = 'running' and old.status = 'running'
    and (new.progress, new.nodes_done, new.nodes_reported, new.current_node, new.step, new.steps)
      is distinct from (old.progress, old.nodes_done, old.nodes_reported, old.current_node, old.step, old.steps)
  then
    new.event_count := new.event_count + 1;
    insert into public.comfyui_run_events (run_id, sequence, user_id, kind, data)
      values (new.id, new.event_count, new.user_id, 'progress',
        json_build_object('value', new.progress, 'nodes_done', new.nodes_done,
          'nodes_total', coalesce(new.nodes_reported, new.nodes_total), 'current_node', new.current_node,
          'step', new.step, 'steps', new.steps));
  end if;
  if new.error_code is not null and old.error_code is null then
    new.event_count := new.event_count + 1;
    insert into public.comfyui_run_events (run_id, sequence, user_id, kind, data)
      values (new.id, new.event_count, new.user_id, 'error',
        json_build_object('code', new.error_code, 'message', new.error_message,
          'node_id', new.error_node_id, 'node_type', new.error_node_type));
  end if;
  if new.status <> old.status and new.status <> 'running' then
    new.event_count := new.event_count + 1;
    insert into public.comfyui_run_events (run_id, sequence, user_id, kind, data)
      values (new.id, new.event_count, new.user_id, 'status',
        json_build_object('status', new.status, 'attempt', new.attempt));
  end if;
  return new;
end
$function$;

create or replace function atelier.announce_run() returns trigger
language plpgsql security definer set search_path = '' as $function$
begin
  if tg_op = 'DELETE' then
    if old.status = 'pending' then
      update public.comfyui_users set pending_runs = pending_runs - 1 where id = old.user_id;
    end if;
    return null;
  end if;
  if tg_op = 'INSERT' then
    insert into public.comfyui_run_events (run_id, sequence, user_id, kind, data)
      values (new.id, 1, new.user_id, 'status', json_build_object('status', new.status, 'attempt', new.attempt));
    if new.status = 'pending' then
      update public.comfyui_users set pending_runs = pending_runs + 1 where id = new.user_id;
    end if;
  elsif (new.status = 'pending') <> (old.status = 'pending') then
    update public.comfyui_users
      set pending_runs = pending_runs + case when new.status = 'pending' then 1 else -1 end
      where id = new.user_id;
  end if;
  if tg_op = 'INSERT' then
    perform pg_catalog.pg_notify('atelier_runs', new.id || ' queued');
  elsif new.status = 'pending' and old.status <> 'pending' then
    perform pg_catalog.pg_notify('atelier_runs', new.id || ' queued');
  elsif new.event_count <> old.event_count or new.cancel_requested_at is distinct from old.cancel_requested_at then
    perform pg_catalog.pg_notify('atelier_runs', new.id::text);
  end if;
  return null;
end
$function$;

drop index public.comfyui_users_waiting_idx;
alter table public.comfyui_users
  drop column has_waiting,
  drop column waiting_runs,
  add column has_pending boolean not null generated always as (pending_runs > 0) stored;
create index comfyui_users_waiting_idx on public.comfyui_users (last_served_at, created_at, id) where has_pending;

drop index public.comfyui_workflow_runs_waiting_idx;
drop index public.comfyui_workflow_runs_returning_idx;
drop index public.comfyui_workflow_runs_overdue_idx;
drop index public.comfyui_workflow_runs_in_flight_idx;
drop index public.comfyui_workflow_runs_ended_idx;
drop index public.comfyui_workflow_runs_retry_of_idx;
update public.comfyui_workflow_runs set error_code = 'attempts_exhausted' where error_code = 'timed_out';
alter table public.comfyui_workflow_runs
  drop constraint comfyui_workflow_runs_limits_check,
  drop constraint comfyui_workflow_runs_error_code_check,
  add constraint comfyui_workflow_runs_error_code_check check (
    error_code in (
      'attempts_exhausted', 'backend_unauthorized', 'execution_failed', 'interrupted', 'lora_missing',
      'lora_sync_failed', 'output_lost', 'no_outputs', 'prompt_rejected'
    )
  ),
  drop column priority,
  drop column timeout_seconds,
  drop column retry_of,
  drop column checkpoint,
  drop column waiting_since,
  drop column deferred_since,
  drop column abandoned_on,
  drop column lost_workers,
  drop column lost_backends,
  drop column lost_executions,
  drop column lora_bytes_done,
  drop column lora_bytes_total,
  add column earlier_backend text,
  add constraint comfyui_workflow_runs_earlier_backend_check check (char_length(earlier_backend) <= 1000);
create index comfyui_workflow_runs_pending_idx on public.comfyui_workflow_runs (user_id, created_at, id)
  where status = 'pending';

create function atelier.claim_run(token uuid, worker text, on_backend text, lease interval)
returns table (
  run_id uuid, owner_id uuid, of_workflow uuid, attempt_number integer, run_graph json, graph_nodes integer,
  needed_loras uuid[], earlier_prompt_id text, earlier_backend text
)
language plpgsql set search_path = '' as $function$
declare
  served uuid;
  passed uuid[] := '{}';
  run record;
begin
  loop
    select person.id into served from public.comfyui_users as person
      where person.has_pending and person.id <> all (passed)
      order by person.last_served_at, person.created_at, person.id
      limit 1 for no key update skip locked;
    if not found then
      return;
    end if;

    select waiting.id, waiting.lives_on, waiting.earlier_backend into run
      from public.comfyui_workflow_runs as waiting
      where waiting.user_id = served and waiting.status = 'pending'
      order by waiting.created_at, waiting.id
      limit 1 for no key update skip locked;
    if found then
      update public.comfyui_users set last_served_at = clock_timestamp() where id = served;
      return query
        update public.comfyui_workflow_runs as claimed set
          status = 'running', phase = null, attempt = claimed.attempt + 1, claim_token = token,
          claimed_by = worker, lease_until = clock_timestamp() + lease, backend = on_backend,
          progress = 0, nodes_done = 0, nodes_reported = null, current_node = null, step = null, steps = null,
          started_at = coalesce(claimed.started_at, clock_timestamp())
        where claimed.id = run.id
        returning claimed.id, claimed.user_id, claimed.workflow_id, claimed.attempt, claimed.graph,
          claimed.nodes_total, claimed.lora_ids, claimed.comfyui_prompt_id, coalesce(run.lives_on, run.earlier_backend);
      return;
    end if;
    -- Their runs are being changed this very moment, as by a cancellation.
    passed := passed || served;
  end loop;
end
$function$;
revoke all on function atelier.claim_run(uuid, text, text, interval) from public;
grant execute on function atelier.claim_run(uuid, text, text, interval) to service_role;
