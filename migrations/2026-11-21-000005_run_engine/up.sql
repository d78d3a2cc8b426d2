-- The run engine: several backends, priorities, timeouts, losses by class, requests that are carried out once.

alter table public.comfyui_workflow_runs
  add column priority smallint not null default 0,
  add column timeout_seconds integer not null default 3600,
  add column retry_of uuid references public.comfyui_workflow_runs (id) on delete set null,
  -- The first checkpoint that the graph loads: for placement.
  add column checkpoint text,
  -- Since when it waits: for its first attempt, or again.
  add column waiting_since timestamptz not null default clock_timestamp(),
  -- When it was first left to a backend that suits it better; see atelier.claim_run.
  add column deferred_since timestamptz,
  -- Backends that stayed away with it for too long: should one come back with it, it is not theirs any more.
  add column abandoned_on text[] not null default '{}',
  add column lost_workers integer not null default 0,
  add column lost_backends integer not null default 0,
  add column lost_executions integer not null default 0,
  add column lora_bytes_done bigint,
  add column lora_bytes_total bigint,
  -- Superseded: whoever had a run last and may have it still is in lives_on.
  drop column earlier_backend,
  drop constraint comfyui_workflow_runs_error_code_check,
  add constraint comfyui_workflow_runs_error_code_check check (
    error_code in (
      'attempts_exhausted', 'backend_unauthorized', 'execution_failed', 'interrupted', 'lora_missing',
      'lora_sync_failed', 'output_lost', 'no_outputs', 'prompt_rejected', 'timed_out'
    )
  ),
  add constraint comfyui_workflow_runs_limits_check check (
    priority between -10 and 10 and timeout_seconds between 1 and 31536000
    and lost_workers >= 0 and lost_backends >= 0 and lost_executions >= 0
    and octet_length(abandoned_on::text) <= 100000 and lora_bytes_done >= 0 and lora_bytes_total >= 0 and char_length(checkpoint) <= 1000
  );

grant select (priority, timeout_seconds, retry_of, checkpoint, lora_bytes_done, lora_bytes_total)
  on table public.comfyui_workflow_runs to authenticated;
grant insert (priority, timeout_seconds, retry_of, checkpoint) on table public.comfyui_workflow_runs to atelier_writer;

-- Of a person's waiting runs the one that is begun next. Those that may be alive on a backend wait for that one alone.
drop index public.comfyui_workflow_runs_pending_idx;
create index comfyui_workflow_runs_waiting_idx
  on public.comfyui_workflow_runs (user_id, priority desc, created_at, id)
  where status = 'pending' and lives_on is null;
create index comfyui_workflow_runs_returning_idx on public.comfyui_workflow_runs (lives_on, waiting_since)
  where status = 'pending' and lives_on is not null;
create index comfyui_workflow_runs_overdue_idx on public.comfyui_workflow_runs (started_at)
  where status = 'pending' and started_at is not null;
create index comfyui_workflow_runs_in_flight_idx on public.comfyui_workflow_runs (backend) where status = 'running';
create index comfyui_workflow_runs_ended_idx on public.comfyui_workflow_runs (completed_at desc)
  where status in ('completed', 'failed') and started_at is not null;
create index comfyui_workflow_runs_retry_of_idx on public.comfyui_workflow_runs (retry_of) where retry_of is not null;

-- ----------------------------------------------------------------------------------------------- who waits for a turn

-- `pending_runs` counts every waiting run; `waiting_runs` those that any backend may begin.
alter table public.comfyui_users add column waiting_runs bigint not null default 0;
update public.comfyui_workflow_runs set lives_on = null where status = 'pending' and lives_on is not null;
update public.comfyui_users set waiting_runs = pending_runs where pending_runs > 0;
drop index public.comfyui_users_waiting_idx;
alter table public.comfyui_users
  drop column has_pending,
  add column has_waiting boolean not null generated always as (waiting_runs > 0) stored,
  add constraint comfyui_users_waiting_runs_check check (waiting_runs between 0 and pending_runs);
create index comfyui_users_waiting_idx on public.comfyui_users (last_served_at, created_at, id) where has_waiting;

-- The payload is the run's id, followed by ` queued` if it waits from now on, or by ` over` if it is over.
create or replace function atelier.announce_run() returns trigger
language plpgsql security definer set search_path = '' as $function$
declare
  was_pending integer := 0;
  was_waiting integer := 0;
  is_pending integer := 0;
  is_waiting integer := 0;
  owner uuid;
begin
  if tg_op <> 'INSERT' then
    owner := old.user_id;
    was_pending := (old.status = 'pending')::integer;
    was_waiting := (old.status = 'pending' and old.lives_on is null)::integer;
  end if;
  if tg_op <> 'DELETE' then
    owner := new.user_id;
    is_pending := (new.status = 'pending')::integer;
    is_waiting := (new.status = 'pending' and new.lives_on is null)::integer;
  end if;
  if tg_op = 'INSERT' then
    insert into public.comfyui_run_events (run_id, sequence, user_id, kind, data)
      values (new.id, 1, new.user_id, 'status', json_build_object('status', new.status, 'attempt', new.attempt));
  end if;
  if is_pending <> was_pending or is_waiting <> was_waiting then
    update public.comfyui_users set
      pending_runs = pending_runs + is_pending - was_pending,
      waiting_runs = waiting_runs + is_waiting - was_waiting
      where id = owner;
  end if;
  if tg_op = 'DELETE' then
    return null;
  end if;
  if is_pending > was_pending or is_waiting <> was_waiting and is_pending = 1 then
    perform pg_catalog.pg_notify('atelier_runs', new.id || ' queued');
  elsif new.event_count <> old.event_count or new.cancel_requested_at is distinct from old.cancel_requested_at then
    perform pg_catalog.pg_notify('atelier_runs',
      new.id || case when new.status in ('completed', 'failed', 'cancelled') then ' over' else '' end);
  end if;
  return null;
end
$function$;

-- The progress of the LoRAs' copies is progress.
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
    and (new.progress, new.nodes_done, new.nodes_reported, new.current_node, new.step, new.steps,
        new.lora_bytes_done, new.lora_bytes_total)
      is distinct from (old.progress, old.nodes_done, old.nodes_reported, old.current_node, old.step, old.steps,
        old.lora_bytes_done, old.lora_bytes_total)
  then
    new.event_count := new.event_count + 1;
    insert into public.comfyui_run_events (run_id, sequence, user_id, kind, data)
      values (new.id, new.event_count, new.user_id, 'progress',
        json_build_object('value', new.progress, 'nodes_done', new.nodes_done,
          'nodes_total', coalesce(new.nodes_reported, new.nodes_total), 'current_node', new.current_node,
          'step', new.step, 'steps', new.steps,
          'lora_bytes_done', new.lora_bytes_done, 'lora_bytes_total', new.lora_bytes_total));
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

-- ------------------------------------------------------------------------------------------------------- backends

-- What the workers say of the backends that they serve; a word that is not said again soon counts no more.
create table public.comfyui_backends (
  name text not null,
  worker text not null,
  answers boolean not null,
  max_in_flight integer not null,
  foreign_prompts integer not null,
  checkpoint text,
  told_at timestamptz not null default clock_timestamp(),
  primary key (name, worker),
  constraint comfyui_backends_texts_check check (
    char_length(name) <= 1000 and char_length(worker) <= 1000 and char_length(checkpoint) <= 1000
  ),
  constraint comfyui_backends_counts_check check (max_in_flight >= 1 and foreign_prompts >= 0)
);
alter table public.comfyui_backends enable row level security;
alter table public.comfyui_backends force row level security;
revoke all on table public.comfyui_backends from anon, authenticated, service_role, public;
grant select, insert, update, delete on table public.comfyui_backends to service_role;

-- Which LoRAs are on which backend's disk, as its workers last saw it.
create table public.comfyui_lora_copies (
  lora_id uuid not null references public.comfyui_lora_models (id) on delete cascade,
  backend text not null,
  seen_at timestamptz not null default clock_timestamp(),
  primary key (lora_id, backend),
  constraint comfyui_lora_copies_backend_check check (char_length(backend) <= 1000)
);
alter table public.comfyui_lora_copies enable row level security;
alter table public.comfyui_lora_copies force row level security;
revoke all on table public.comfyui_lora_copies from anon, authenticated, service_role, public;
grant select, insert, update, delete on table public.comfyui_lora_copies to service_role;

-- Takes the next waiting run for a worker, or none; or says in `defer` how long what waits is left to backends that suit
-- it better.
--
-- Waits for another claim for the same backend, so that no two of them count its runs at once; and, holding the run that
-- it takes, for whoever changes the count of its owner's runs: everybody locks a run first and its owner second, so none
-- waits for the other for ever. It never waits for a run. So none may also mean that what waits is in other hands this very
-- moment; whoever asked asks again.
drop function atelier.claim_run(uuid, text, text, interval);
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

-- How many runs will be begun before a waiting one if nothing else comes, and how far apart the ends of runs are while
-- the backends are busy. Tells a person about own runs only, and of everybody else's no more than how many they are.
--
-- People take turns: before the run that is the nth of its owner's (from 0), everybody else begins n of theirs, and those
-- whose turn comes first one more.
create function atelier.queue_outlook(waiting_run uuid)
returns table (queue_position bigint, seconds_apart double precision)
language plpgsql stable strict security definer set search_path = '' as $function$
begin
  -- Not a function in SQL: that would be planned anew at each call.
  return query with mine as (
    select run.id, run.user_id, run.priority, run.created_at, person.last_served_at, person.created_at as joined_at
    from public.comfyui_workflow_runs as run
    join public.comfyui_users as person on person.id = run.user_id
    where run.id = waiting_run and run.status = 'pending' and run.lives_on is null
      and run.user_id = (select auth.uid())
  ), own as (
    select count(*) as before from mine
    join public.comfyui_workflow_runs as run
      on run.user_id = mine.user_id and run.status = 'pending' and run.lives_on is null
      and (-run.priority, run.created_at, run.id) < (-mine.priority, mine.created_at, mine.id)
  ), ends as (
    select ended.completed_at, ended.started_at,
      lag(ended.completed_at) over (order by ended.completed_at) as before
    from (
      select run.completed_at, run.started_at from public.comfyui_workflow_runs as run
      where run.status in ('completed', 'failed') and run.started_at is not null
        and run.completed_at > clock_timestamp() - interval '1 hour'
      order by run.completed_at desc limit 50
    ) as ended
  )
  select
    own.before
      + (select coalesce(sum(least(person.waiting_runs, own.before +
          case when (person.last_served_at, person.created_at, person.id)
            < (mine.last_served_at, mine.joined_at, mine.user_id) then 1 else 0 end)), 0)::bigint
        from public.comfyui_users as person where person.has_waiting and person.id <> mine.user_id)
      + (select count(*) from public.comfyui_workflow_runs as run
        where run.status = 'pending' and run.lives_on is not null),
    -- Only where the later one had been begun before the earlier one ended was there anything to wait for.
    (select case when count(*) >= 5 then avg(extract(epoch from ends.completed_at - ends.before))::double precision end
      from ends where ends.started_at < ends.before)
  from mine cross join own;
end
$function$;
revoke all on function atelier.queue_outlook(uuid) from public;
grant usage on schema atelier to authenticated;
grant execute on function atelier.queue_outlook(uuid) to authenticated, atelier_writer;

-- ----------------------------------------------------------------------------------- requests that are carried out once

create table public.comfyui_idempotency_keys (
  user_id uuid not null references public.comfyui_users (id) on delete cascade,
  method text not null,
  path text not null,
  key text not null,
  fingerprint text not null,
  status smallint not null,
  location text,
  body text not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (user_id, method, path, key),
  constraint comfyui_idempotency_keys_status_check check (status between 200 and 299),
  constraint comfyui_idempotency_keys_fingerprint_check check (fingerprint ~ '^[0-9a-f]{64}$'),
  constraint comfyui_idempotency_keys_texts_check check (
    char_length(method) <= 20 and char_length(path) <= 2000 and char_length(key) between 1 and 255
    and char_length(location) <= 2000 and octet_length(body) <= 67108864
  )
);
create index comfyui_idempotency_keys_age_idx on public.comfyui_idempotency_keys (created_at);
alter table public.comfyui_idempotency_keys enable row level security;
alter table public.comfyui_idempotency_keys force row level security;
revoke all on table public.comfyui_idempotency_keys from anon, authenticated, service_role, public;
grant select, insert, delete on table public.comfyui_idempotency_keys to atelier_writer;
grant select, insert, update, delete on table public.comfyui_idempotency_keys to service_role;
create policy comfyui_idempotency_keys_select on public.comfyui_idempotency_keys
  for select to atelier_writer using (user_id = (select auth.uid()));
create policy comfyui_idempotency_keys_insert on public.comfyui_idempotency_keys
  for insert to atelier_writer with check (user_id = (select auth.uid()));
create policy comfyui_idempotency_keys_delete on public.comfyui_idempotency_keys
  for delete to atelier_writer using (user_id = (select auth.uid()));

-- What excludes two requests of one key from each other.
create function atelier.idempotency_lock(person uuid, request_method text, request_path text, request_key text)
returns bigint language sql immutable set search_path = '' as $function$
  select hashtextextended(
    jsonb_build_array('atelier.idempotency', person, request_method, request_path, request_key)::text, 0)
$function$;
revoke all on function atelier.idempotency_lock(uuid, text, text, text) from public;
grant execute on function atelier.idempotency_lock(uuid, text, text, text) to atelier_writer;

-- What an earlier request of the person who asks left: `answered`, `different`, `underway`, or no row.
create function atelier.earlier_request(
  request_method text, request_path text, request_key text, body_fingerprint text, kept interval
) returns table (outcome text, answer_status smallint, answer_location text, answer_body text)
language plpgsql set search_path = '' as $function$
declare
  person uuid := auth.uid();
  lock bigint := atelier.idempotency_lock(person, request_method, request_path, request_key);
  is_underway boolean := false;
begin
  loop
    return query
      select case when earlier.fingerprint = body_fingerprint then 'answered' else 'different' end,
          earlier.status, earlier.location, earlier.body
        from public.comfyui_idempotency_keys as earlier
        where earlier.user_id = person and earlier.method = request_method and earlier.path = request_path
          and earlier.key = request_key and earlier.created_at > clock_timestamp() - kept;
    exit when found;
    if is_underway then
      return query select 'underway', null::smallint, null::text, null::text;
      exit;
    end if;
    -- To try the lock would make a request that comes at this moment believe that another one is under way.
    is_underway := exists (
      select from pg_catalog.pg_locks as held
      where held.locktype = 'advisory' and held.objsubid = 1 and held.granted
        and held.classid = ((lock >> 32) & 4294967295)::oid and held.objid = (lock & 4294967295)::oid
        and held.database = (select id.oid from pg_catalog.pg_database as id where id.datname = current_database())
    );
    -- It may have been answered between the two looks.
    exit when not is_underway;
  end loop;
end
$function$;
revoke all on function atelier.earlier_request(text, text, text, text, interval) from public;
grant execute on function atelier.earlier_request(text, text, text, text, interval) to atelier_writer;

-- Says how many runs of the person who asks wait, and keeps others from changing that until the transaction ends.
-- Security definer: nobody else may know the count or hold the row.
create function atelier.lock_own_queue() returns bigint
language plpgsql security definer set search_path = '' as $function$
declare
  waiting bigint;
begin
  loop
    select person.pending_runs into waiting from public.comfyui_users as person
      where person.id = auth.uid() for no key update;
    if found then
      return waiting;
    end if;
    insert into public.comfyui_users (id) values (auth.uid()) on conflict (id) do nothing;
  end loop;
end
$function$;
revoke all on function atelier.lock_own_queue() from public;
grant execute on function atelier.lock_own_queue() to atelier_writer;

-- Puts a run into the queue as the person who asks, under the policies of that person: all of it or nothing, in one
-- statement. Says `enqueued`, `full`, or what an earlier request left.
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
