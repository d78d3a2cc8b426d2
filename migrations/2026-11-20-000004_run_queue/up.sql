-- The queue over the runs: what follows from every change of a run, and how a worker takes the next one.
--
-- A claim must take the same few milliseconds however many runs wait. So each person carries the number of their waiting
-- runs; the claim looks for the person who was served longest ago among those who have any (one index), then for that
-- person's oldest run (another index), and never counts or sorts.

create index comfyui_users_waiting_idx on public.comfyui_users (last_served_at, created_at, id) where has_pending;

-- Writes the events of a change into the run's history before the change itself, in the same statement. Security
-- definer: only here are events made, whoever changes the run.
create function atelier.record_run_change() returns trigger
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
revoke all on function atelier.record_run_change() from public;

-- Keeps the owner's count of waiting runs and wakes whoever listens, once the change is visible. The payload is the
-- run's id, followed by ` queued` if it waits now.
create function atelier.announce_run() returns trigger
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
revoke all on function atelier.announce_run() from public;

create trigger comfyui_workflow_runs_change before update on public.comfyui_workflow_runs
  for each row execute function atelier.record_run_change();
create trigger comfyui_workflow_runs_announce after insert or update or delete on public.comfyui_workflow_runs
  for each row execute function atelier.announce_run();

-- Takes the next waiting run for a worker, or none.
--
-- Waits for nobody. A select that waits for a row keeps its lock even if the row turns out not to match, and then waits
-- for the next one: two such claims would hold what the other wants. So none may also mean that everybody who waits is
-- in other hands this very moment; whoever asked asks again.
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

-- Ends a run under a claim with its outputs; false if the claim does not hold the run.
create function atelier.finish_run(
  finished uuid, token uuid, final_status text, failure json, left_behind json
) returns boolean language plpgsql set search_path = '' as $function$
declare
  owner uuid;
  events bigint;
  stored bigint;
begin
  select run.user_id, run.event_count into owner, events from public.comfyui_workflow_runs as run
    where run.id = finished and run.claim_token = token
    for no key update;
  if not found then
    return false;
  end if;
  insert into public.comfyui_run_outputs
      (run_id, index, user_id, node_id, kind, filename, content_type, size_bytes, sha256, width, height, blob_key)
    select finished, output.index, owner, output.node_id, output.kind, output.filename, output.content_type,
        output.size_bytes, output.sha256, output.width, output.height, output.blob_key
      from json_to_recordset(left_behind) as output (
        index integer, node_id text, kind text, filename text, content_type text, size_bytes bigint, sha256 text,
        width bigint, height bigint, blob_key text
      );
  get diagnostics stored = row_count;
  insert into public.comfyui_run_events (run_id, sequence, user_id, kind, data)
    select finished, events + row_number() over (order by output.index), owner, 'output',
        json_build_object('index', output.index, 'filename', output.filename)
      from public.comfyui_run_outputs as output where output.run_id = finished;
  update public.comfyui_workflow_runs as run set
      status = final_status, phase = null, claim_token = null, claimed_by = null, lease_until = null,
      event_count = events + stored, completed_at = clock_timestamp(),
      -- Of a short run the worker reports no progress at all.
      progress = case when final_status = 'completed' then 1 else run.progress end,
      nodes_done = case when final_status = 'completed' then coalesce(run.nodes_reported, run.nodes_total)
        else run.nodes_done end,
      current_node = case when final_status <> 'completed' then run.current_node end,
      step = case when final_status <> 'completed' then run.step end,
      steps = case when final_status <> 'completed' then run.steps end,
      error_code = failure ->> 'code', error_message = failure ->> 'message',
      error_node_id = failure ->> 'node_id', error_node_type = failure ->> 'node_type'
    where run.id = finished;
  return true;
end
$function$;
revoke all on function atelier.finish_run(uuid, uuid, text, json, json) from public;
grant execute on function atelier.finish_run(uuid, uuid, text, json, json) to service_role;
