create or replace function atelier.are_tags(tags text[]) returns boolean
language sql immutable parallel safe set search_path = '' as $function$
  select cardinality(tags) <= 32
    and coalesce(array_ndims(tags), 1) = 1
    and not exists (
      select from unnest(tags) as tag
      where tag is null
        or char_length(tag) > 64
        or tag ~ '[\u0001-\u001f\u007f-\u009f,]'
        or tag !~ '[^\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
    )
$function$;
drop function atelier.queue_figures();
drop function atelier.usage();
drop index public.comfyui_workflow_runs_oldest_idx;
drop index public.comfyui_run_outputs_usage_idx;
drop function atelier.claim_run(uuid, text, text, interval, integer, interval, integer);
create function atelier.claim_run(
  token uuid, worker text, on_backend text, lease interval, room integer, affinity interval
) returns table (
  run_id uuid, owner_id uuid, of_workflow uuid, attempt_number integer, run_graph json, graph_nodes integer,
  needed_loras uuid[], resumes text, value double precision, done_nodes integer, timeout integer,
  remaining interval, defer interval
)
language plpgsql set search_path = '' as $function$
declare
  chosen uuid;
  here bigint;
  served uuid;
  passed uuid[] := '{}';
  waiting record;
  better record;
  patience interval;
  shortest interval;
begin
  perform pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('atelier.backend ' || on_backend, 0));

  -- What may be alive here is taken up again, however full the backend is.
  select returning_run.id into chosen from public.comfyui_workflow_runs as returning_run
    where returning_run.status = 'pending' and returning_run.lives_on = on_backend
    order by returning_run.waiting_since
    limit 1 for no key update skip locked;

  if chosen is null then
    -- Those of a worker that gave no sign of life lately do not keep a backend idle: leases are renewed long before.
    select count(*) into here from public.comfyui_workflow_runs as running
      where running.status = 'running' and running.backend = on_backend
        and running.lease_until > clock_timestamp() + lease / 2;
    if here >= room then
      return;
    end if;
  end if;

  while chosen is null loop
    -- Not locked: whoever puts a run of theirs into the queue holds this row until the end of its transaction. Two claims at
    -- the same moment may serve one person twice in a row, with two runs.
    select person.id into served from public.comfyui_users as person
      where person.has_waiting and person.id <> all (passed)
      order by person.last_served_at, person.created_at, person.id
      limit 1;
    exit when not found;
    passed := passed || served;

    select next.id, next.lora_ids, next.checkpoint, next.deferred_since into waiting
      from public.comfyui_workflow_runs as next
      where next.user_id = served and next.status = 'pending' and next.lives_on is null
      order by next.priority desc, next.created_at, next.id
      limit 1 for no key update skip locked;
    -- Or their runs are being changed this very moment, as by a cancellation.
    continue when not found;

    select other.loras > mine.loras or (other.loras = mine.loras and other.loaded > mine.loaded) as by_content
      into better
      from (
        select
          (select count(*) from public.comfyui_lora_copies as copy
            where copy.backend = on_backend and copy.lora_id = any (waiting.lora_ids)) as loras,
          coalesce((select bool_or(told.checkpoint = waiting.checkpoint) from public.comfyui_backends as told
            where told.name = on_backend and told.told_at > clock_timestamp() - interval '15 seconds'), false) as loaded,
          here + coalesce((select max(told.foreign_prompts) from public.comfyui_backends as told
            where told.name = on_backend and told.told_at > clock_timestamp() - interval '15 seconds'), 0) as load
      ) as mine
      cross join lateral (
        select backend.name,
          (select count(*) from public.comfyui_lora_copies as copy
            where copy.backend = backend.name and copy.lora_id = any (waiting.lora_ids)) as loras,
          coalesce(bool_or(backend.checkpoint = waiting.checkpoint), false) as loaded,
          in_flight.runs + max(backend.foreign_prompts) as load
        from public.comfyui_backends as backend
        cross join lateral (
          select count(*) as runs from public.comfyui_workflow_runs as running
            where running.status = 'running' and running.backend = backend.name
        ) as in_flight
        where backend.name <> on_backend and backend.answers
          and backend.told_at > clock_timestamp() - interval '15 seconds'
        group by backend.name, in_flight.runs
        having in_flight.runs < max(backend.max_in_flight)
      ) as other
      where (other.loras, other.loaded::integer, -other.load) > (mine.loras, mine.loaded::integer, -mine.load)
      order by 1 desc
      limit 1;
    if found then
      patience := case when better.by_content then affinity else affinity / 10 end
        - coalesce(clock_timestamp() - waiting.deferred_since, interval '0');
      if patience > interval '0' then
        if waiting.deferred_since is null then
          update public.comfyui_workflow_runs set deferred_since = clock_timestamp() where id = waiting.id;
        end if;
        shortest := least(shortest, patience);
        -- Looking further and further would make a claim as long as the queue.
        exit when cardinality(passed) >= 16;
        continue;
      end if;
    end if;
    chosen := waiting.id;
    update public.comfyui_users set last_served_at = clock_timestamp() where id = served;
  end loop;

  if chosen is null then
    if shortest is not null then
      return query select null::uuid, null::uuid, null::uuid, null::integer, null::json, null::integer, null::uuid[],
        null::text, null::double precision, null::integer, null::integer, null::interval, shortest;
    end if;
    return;
  end if;

  return query
    update public.comfyui_workflow_runs as claimed set
      status = 'running', phase = null, attempt = claimed.attempt + 1, claim_token = token,
      claimed_by = worker, lease_until = clock_timestamp() + lease, backend = on_backend, deferred_since = null,
      -- Unless the backend is too old to take it, and says another one.
      comfyui_prompt_id = coalesce(claimed.comfyui_prompt_id, claimed.id::text),
      -- What is taken up again goes on from where it was.
      progress = case when claimed.lives_on is null then 0 else claimed.progress end,
      nodes_done = case when claimed.lives_on is null then 0 else claimed.nodes_done end,
      nodes_reported = null, current_node = null, step = null, steps = null,
      lora_bytes_done = null, lora_bytes_total = null,
      started_at = coalesce(claimed.started_at, clock_timestamp())
    where claimed.id = chosen
    returning claimed.id, claimed.user_id, claimed.workflow_id, claimed.attempt, claimed.graph,
      claimed.nodes_total, claimed.lora_ids,
      case when claimed.lives_on is not null then coalesce(claimed.comfyui_prompt_id, claimed.id::text) end,
      claimed.progress, claimed.nodes_done, claimed.timeout_seconds,
      claimed.started_at + make_interval(secs => claimed.timeout_seconds) - clock_timestamp(), null::interval;
end
$function$;
revoke all on function atelier.claim_run(uuid, text, text, interval, integer, interval) from public;
grant execute on function atelier.claim_run(uuid, text, text, interval, integer, interval) to service_role;
drop function atelier.enqueue_run(uuid, uuid, json, json, integer, uuid[], text, smallint, integer, uuid,
  timestamptz, bigint, uuid[], text, text, text, text, text, interval, smallint, text, text);
create function atelier.enqueue_run(
  new_id uuid, for_workflow uuid, params json, bound_graph json, graph_nodes integer, needed_loras uuid[],
  first_checkpoint text, of_priority smallint, of_timeout integer, repeats uuid, asked_at timestamptz, max_pending bigint,
  request_method text, request_path text, request_key text, body_fingerprint text, kept interval,
  new_status smallint, new_location text, new_body text
) returns table (
  outcome text, answer_status smallint, answer_location text, answer_body text, of_workflow uuid, retry_of_run uuid
)
language plpgsql set search_path = '' as $function$
declare
  person uuid := auth.uid();
begin
  if request_key is not null then
    return query
      select earlier.*, null::uuid, null::uuid
        from atelier.earlier_request(request_method, request_path, request_key, body_fingerprint, kept) as earlier;
    if found then
      return;
    end if;
    if not pg_catalog.pg_try_advisory_xact_lock(
      atelier.idempotency_lock(person, request_method, request_path, request_key))
    then
      return query select 'underway', null::smallint, null::text, null::text, null::uuid, null::uuid;
      return;
    end if;
    -- Another one may have been answered since the first look; nobody but this one is under way now.
    return query
      select earlier.*, null::uuid, null::uuid
        from atelier.earlier_request(request_method, request_path, request_key, body_fingerprint, kept) as earlier
        where earlier.outcome <> 'underway';
    if found then
      return;
    end if;
  end if;
  if atelier.lock_own_queue() >= max_pending then
    return query select 'full', null::smallint, null::text, null::text, null::uuid, null::uuid;
    return;
  end if;
  -- What it executes and repeats is looked up as the person: what was deleted meanwhile is left out.
  return query
    insert into public.comfyui_workflow_runs
        (id, user_id, workflow_id, input_params, graph, nodes_total, lora_ids, checkpoint, priority, timeout_seconds,
          retry_of, created_at)
      values (new_id, person,
        (select workflow.id from public.comfyui_workflows as workflow where workflow.id = for_workflow),
        params, bound_graph, graph_nodes, needed_loras, first_checkpoint, of_priority, of_timeout,
        (select repeated.id from public.comfyui_workflow_runs as repeated where repeated.id = repeats), asked_at)
      returning 'enqueued', null::smallint, null::text, null::text, workflow_id, retry_of;
  if request_key is not null then
    delete from public.comfyui_idempotency_keys as expired
      where expired.user_id = person and expired.method = request_method and expired.path = request_path
        and expired.key = request_key;
    insert into public.comfyui_idempotency_keys (user_id, method, path, key, fingerprint, status, location, body)
      values (person, request_method, request_path, request_key, body_fingerprint, new_status, new_location, new_body);
  end if;
end
$function$;
revoke all on function atelier.enqueue_run(uuid, uuid, json, json, integer, uuid[], text, smallint, integer, uuid,
  timestamptz, bigint, text, text, text, text, interval, smallint, text, text) from public;
grant execute on function atelier.enqueue_run(uuid, uuid, json, json, integer, uuid[], text, smallint, integer, uuid,
  timestamptz, bigint, text, text, text, text, interval, smallint, text, text) to atelier_writer;
-- The older shape has no words for these failures.
update public.comfyui_workflow_runs set error_code = 'lora_missing' where error_code = 'input_missing';
update public.comfyui_workflow_runs set error_code = 'lora_sync_failed' where error_code = 'input_sync_failed';
update public.comfyui_workflow_runs set error_code = 'prompt_rejected' where error_code = 'node_refused';
alter table public.comfyui_workflow_runs
  drop constraint comfyui_workflow_runs_error_code_check,
  add constraint comfyui_workflow_runs_error_code_check check (
    error_code in (
      'attempts_exhausted', 'backend_unauthorized', 'execution_failed', 'interrupted', 'lora_missing',
      'lora_sync_failed', 'output_lost', 'no_outputs', 'prompt_rejected', 'timed_out'
    )
  ),
  drop constraint comfyui_workflow_runs_inputs_check,
  drop constraint comfyui_workflow_runs_trace_check,
  drop column trace_parent,
  drop column input_ids;
drop table public.comfyui_inputs;
