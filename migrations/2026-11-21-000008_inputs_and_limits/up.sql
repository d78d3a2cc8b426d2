-- Input files of people, and bounds on what one person may take.

-- ---------------------------------------------------------------------------------------------------------- inputs

-- Pictures that people upload for their graphs. A row and its bytes never change: other bytes are another row at another
-- path, so that a run that waits gets what was there when it was asked for.
create table public.comfyui_inputs (
  id uuid primary key,
  user_id uuid not null references public.comfyui_users (id) on delete cascade,
  filename text not null,
  content_type text not null,
  size_bytes bigint not null,
  sha256 text not null,
  width bigint not null,
  height bigint not null,
  -- Where it stands in a backend's input folder.
  comfyui_path text not null,
  blob_key text not null,
  created_at timestamptz not null default now(),
  -- Gone for its owner; the row stays until no unfinished run needs the bytes and they are cleaned away.
  deleted_at timestamptz,
  constraint comfyui_inputs_content_type_check check (
    content_type in ('image/png', 'image/jpeg', 'image/webp', 'image/gif')
  ),
  constraint comfyui_inputs_sizes_check check (
    size_bytes >= 1 and width between 1 and 4294967295 and height between 1 and 4294967295
  ),
  constraint comfyui_inputs_sha256_check check (sha256 ~ '^[0-9a-f]{64}$'),
  constraint comfyui_inputs_paths_check check (
    starts_with(comfyui_path, 'user-' || user_id || '/') and octet_length(comfyui_path) <= 300
    and starts_with(blob_key, 'user-' || user_id || '/inputs/') and octet_length(blob_key) <= 1000
  ),
  constraint comfyui_inputs_filename_check check (octet_length(filename) between 1 and 200)
);
create index comfyui_inputs_own_idx on public.comfyui_inputs (user_id, created_at desc, id desc) where deleted_at is null;
create index comfyui_inputs_name_idx on public.comfyui_inputs (user_id, filename, created_at desc) where deleted_at is null;
create index comfyui_inputs_path_idx on public.comfyui_inputs (user_id, comfyui_path, created_at desc) where deleted_at is null;
-- The same bytes under the same name are one row, however many uploads bring them at once.
create unique index comfyui_inputs_content_key on public.comfyui_inputs (user_id, filename, sha256) where deleted_at is null;
create index comfyui_inputs_deleted_idx on public.comfyui_inputs (deleted_at) where deleted_at is not null;
-- Keys are made from ids, so this tells nobody anything.
create unique index comfyui_inputs_blob_key_key on public.comfyui_inputs (blob_key);

create trigger comfyui_inputs_owner before insert on public.comfyui_inputs
  for each row execute function atelier.ensure_owner();

alter table public.comfyui_inputs enable row level security;
alter table public.comfyui_inputs force row level security;
revoke all on table public.comfyui_inputs from anon, authenticated, service_role, public;
grant select on table public.comfyui_inputs to authenticated;
grant insert (id, user_id, filename, content_type, size_bytes, sha256, width, height, comfyui_path, blob_key, created_at),
  update (deleted_at)
  on table public.comfyui_inputs to atelier_writer;
grant select, insert, update, delete on table public.comfyui_inputs to service_role;
create policy comfyui_inputs_select on public.comfyui_inputs
  for select to authenticated using (user_id = (select auth.uid()) and deleted_at is null);
-- Who marks a row as deleted must see it afterwards, or Postgres refuses the update.
create policy comfyui_inputs_select_deleted on public.comfyui_inputs
  for select to atelier_writer using (user_id = (select auth.uid()));
create policy comfyui_inputs_insert on public.comfyui_inputs
  for insert to atelier_writer with check (user_id = (select auth.uid()));
create policy comfyui_inputs_update on public.comfyui_inputs
  for update to atelier_writer using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

-- -------------------------------------------------------------------------------------------------------- the runs

alter table public.comfyui_workflow_runs
  -- The input files that the run needs on its backend.
  add column input_ids uuid[] not null default '{}',
  -- The W3C trace context of the request that asked for it, if somebody traces.
  add column trace_parent text,
  add constraint comfyui_workflow_runs_inputs_check check (cardinality(input_ids) <= 10000),
  add constraint comfyui_workflow_runs_trace_check check (octet_length(trace_parent) <= 100),
  drop constraint comfyui_workflow_runs_error_code_check,
  add constraint comfyui_workflow_runs_error_code_check check (
    error_code in (
      'attempts_exhausted', 'backend_unauthorized', 'execution_failed', 'input_missing', 'input_sync_failed',
      'interrupted', 'lora_missing', 'lora_sync_failed', 'node_refused', 'output_lost', 'no_outputs', 'prompt_rejected',
      'timed_out'
    )
  );
grant select (input_ids) on table public.comfyui_workflow_runs to authenticated;
grant insert (input_ids, trace_parent) on table public.comfyui_workflow_runs to atelier_writer;

drop function atelier.enqueue_run(uuid, uuid, json, json, integer, uuid[], text, smallint, integer, uuid,
  timestamptz, bigint, text, text, text, text, interval, smallint, text, text);

-- As before, with the run's inputs and trace.
create function atelier.enqueue_run(
  new_id uuid, for_workflow uuid, params json, bound_graph json, graph_nodes integer, needed_loras uuid[],
  first_checkpoint text, of_priority smallint, of_timeout integer, repeats uuid, asked_at timestamptz, max_pending bigint,
  needed_inputs uuid[], of_trace text,
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
          retry_of, created_at, input_ids, trace_parent)
      values (new_id, person,
        (select workflow.id from public.comfyui_workflows as workflow where workflow.id = for_workflow),
        params, bound_graph, graph_nodes, needed_loras, first_checkpoint, of_priority, of_timeout,
        (select repeated.id from public.comfyui_workflow_runs as repeated where repeated.id = repeats), asked_at,
        needed_inputs, of_trace)
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
  timestamptz, bigint, uuid[], text, text, text, text, text, interval, smallint, text, text) from public;
grant execute on function atelier.enqueue_run(uuid, uuid, json, json, integer, uuid[], text, smallint, integer, uuid,
  timestamptz, bigint, uuid[], text, text, text, text, text, interval, smallint, text, text) to atelier_writer;

drop function atelier.claim_run(uuid, text, text, interval, integer, interval);

-- As before, and passes over who has enough runs under way.
create function atelier.claim_run(
  token uuid, worker text, on_backend text, lease interval, room integer, affinity interval, most_running integer
) returns table (
  run_id uuid, owner_id uuid, of_workflow uuid, attempt_number integer, run_graph json, graph_nodes integer,
  needed_loras uuid[], resumes text, value double precision, done_nodes integer, timeout integer,
  remaining interval, defer interval, needed_inputs uuid[], of_trace text
)
language plpgsql set search_path = '' as $function$
declare
  chosen uuid;
  here bigint;
  served uuid;
  looked_at integer := 0;
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

  -- Who has as many runs under way as anybody may have waits for one of them to end. Null: as many as there is room for.
  if chosen is null and most_running is not null then
    select coalesce(array_agg(busy.user_id), '{}') into passed from (
      select own.user_id from public.comfyui_workflow_runs as own
        where own.status = 'running' group by own.user_id having count(*) >= most_running
    ) as busy;
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
    looked_at := looked_at + 1;
    if most_running is not null then
      -- One claim at a time for one person, or two would pass the bound together. Not waited for: who holds one such lock
      -- may want another.
      continue when not pg_catalog.pg_try_advisory_xact_lock(
        pg_catalog.hashtextextended('atelier.running ' || served, 0));
      -- Whoever held the lock may have begun one since.
      continue when most_running <= (
        select count(*) from public.comfyui_workflow_runs as own
        where own.user_id = served and own.status = 'running'
      );
    end if;

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
        exit when looked_at >= 16;
        continue;
      end if;
    end if;
    chosen := waiting.id;
    update public.comfyui_users set last_served_at = clock_timestamp() where id = served;
  end loop;

  if chosen is null then
    if shortest is not null then
      return query select null::uuid, null::uuid, null::uuid, null::integer, null::json, null::integer, null::uuid[],
        null::text, null::double precision, null::integer, null::integer, null::interval, shortest, null::uuid[],
        null::text;
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
      claimed.started_at + make_interval(secs => claimed.timeout_seconds) - clock_timestamp(), null::interval,
      claimed.input_ids, claimed.trace_parent;
end
$function$;
revoke all on function atelier.claim_run(uuid, text, text, interval, integer, interval, integer) from public;
grant execute on function atelier.claim_run(uuid, text, text, interval, integer, interval, integer) to service_role;

-- ----------------------------------------------------------------------------------------------------------- usage

-- For sums over one person's files.
create index comfyui_run_outputs_usage_idx on public.comfyui_run_outputs (user_id) include (size_bytes);

-- What the person who asks takes up. LoRAs on their way count with what is known of their size, so that several at once
-- cannot pass a quota together. Under the person's own policies.
create function atelier.usage() returns table (
  lora_bytes bigint, input_bytes bigint, output_bytes bigint, pending_runs bigint, running_runs bigint
) language sql stable set search_path = '' as $function$
  select
    (select coalesce(sum(coalesce(lora.file_size, lora.bytes_total, lora.bytes_done)), 0)::bigint
      from public.comfyui_lora_models as lora
      where lora.user_id = (select auth.uid()) and lora.deleted_at is null and lora.status <> 'failed'),
    (select coalesce(sum(input.size_bytes), 0)::bigint from public.comfyui_inputs as input
      where input.user_id = (select auth.uid()) and input.deleted_at is null),
    (select coalesce(sum(output.size_bytes), 0)::bigint from public.comfyui_run_outputs as output
      where output.user_id = (select auth.uid())),
    (select count(*) from public.comfyui_workflow_runs as run
      where run.user_id = (select auth.uid()) and run.status = 'pending'),
    (select count(*) from public.comfyui_workflow_runs as run
      where run.user_id = (select auth.uid()) and run.status = 'running')
$function$;
revoke all on function atelier.usage() from public;
grant execute on function atelier.usage() to atelier_writer;

create index comfyui_workflow_runs_oldest_idx on public.comfyui_workflow_runs (waiting_since) where status = 'pending';

-- What a look from outside wants to know of the queue: how many runs wait, for how long the oldest has, how many run.
create function atelier.queue_figures() returns table (waiting bigint, oldest_seconds double precision, running bigint)
language sql stable set search_path = '' as $function$
  select
    (select coalesce(sum(person.pending_runs), 0)::bigint from public.comfyui_users as person where person.pending_runs > 0),
    (select coalesce(extract(epoch from clock_timestamp() - min(run.waiting_since)), 0)::double precision
      from public.comfyui_workflow_runs as run where run.status = 'pending'),
    (select count(*) from public.comfyui_workflow_runs as run where run.status = 'running')
$function$;
revoke all on function atelier.queue_figures() from public;
grant execute on function atelier.queue_figures() to service_role;

-- ------------------------------------------------------------------------------------------------------------ tags

-- As before, in a language whose plans are kept: it is asked for every row that is written.
create or replace function atelier.are_tags(tags text[]) returns boolean
language plpgsql immutable parallel safe set search_path = '' as $function$
declare
  tag text;
begin
  if cardinality(tags) > 32 or coalesce(array_ndims(tags), 1) <> 1 then
    return false;
  end if;
  foreach tag in array tags loop
    if tag is null
      or char_length(tag) > 64
      or tag ~ '[\u0001-\u001f\u007f-\u009f,]'
      or tag !~ '[^\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
    then
      return false;
    end if;
  end loop;
  return true;
end
$function$;
