-- Runs, what happens to them, and what they leave behind.
--
-- A person reads own rows and writes none: putting a run into the queue is the server's (`atelier_writer`, for that
-- person), because only the server has checked the graph; everything after that is a worker's (`service_role`). So
-- nobody who reaches the tables with an access token can mark a run completed, forge an output, or run what was refused.

create table public.comfyui_workflow_runs (
  id uuid primary key,
  user_id uuid not null references public.comfyui_users (id) on delete cascade,
  workflow_id uuid references public.comfyui_workflows (id) on delete set null,
  status text not null default 'pending',
  phase text,
  input_params json not null default '{}',
  graph json not null,
  nodes_total integer not null,
  lora_ids uuid[] not null default '{}',
  attempt integer not null default 0,
  comfyui_prompt_id text,
  backend text,
  -- Where an attempt may be alive still, from the moment that a worker begins to submit it.
  lives_on text,
  -- Who had it last, submitted or not.
  earlier_backend text,
  claim_token uuid,
  claimed_by text,
  lease_until timestamptz,
  cancel_requested_at timestamptz,
  progress double precision not null default 0,
  nodes_done integer not null default 0,
  -- The graph's count until a worker reports another.
  nodes_reported integer,
  current_node text,
  step integer,
  steps integer,
  error_code text,
  error_message text,
  error_node_id text,
  error_node_type text,
  -- How many events there are: their sequence has no gaps, because whoever adds one has locked this row.
  event_count bigint not null default 1,
  created_at timestamptz not null default now(),
  started_at timestamptz,
  completed_at timestamptz,
  constraint comfyui_workflow_runs_status_check
    check (status in ('pending', 'running', 'completed', 'failed', 'cancelled')),
  constraint comfyui_workflow_runs_phase_check check (
    phase in ('syncing_loras', 'submitting', 'queued', 'executing', 'storing_outputs')
    and (phase is null or status = 'running')
  ),
  constraint comfyui_workflow_runs_claim_check check (
    (status = 'running') = (claim_token is not null)
    and (status = 'running') = (claimed_by is not null)
    and (status = 'running') = (lease_until is not null)
  ),
  constraint comfyui_workflow_runs_over_check
    check ((status in ('completed', 'failed', 'cancelled')) = (completed_at is not null)),
  constraint comfyui_workflow_runs_error_code_check check (
    error_code in (
      'attempts_exhausted', 'backend_unauthorized', 'execution_failed', 'interrupted', 'lora_missing',
      'lora_sync_failed', 'output_lost', 'no_outputs', 'prompt_rejected'
    )
  ),
  constraint comfyui_workflow_runs_error_check
    check ((status = 'failed') = (error_code is not null and error_message is not null)),
  constraint comfyui_workflow_runs_counts_check check (
    attempt >= 0 and nodes_total >= 0 and nodes_done >= 0
    and nodes_reported >= 0 and step >= 0 and steps >= 0 and event_count >= 1
    and progress between 0 and 1
  ),
  constraint comfyui_workflow_runs_texts_check check (
    octet_length(input_params::text) <= 33554432 and octet_length(graph::text) <= 33554432
    and cardinality(lora_ids) <= 10000
    and char_length(comfyui_prompt_id) <= 1000 and char_length(backend) <= 1000 and char_length(lives_on) <= 1000
    and char_length(earlier_backend) <= 1000
    and char_length(claimed_by) <= 1000 and char_length(current_node) <= 1000 and char_length(error_message) <= 10000
    and char_length(error_node_id) <= 1000 and char_length(error_node_type) <= 1000
  ),
  constraint comfyui_workflow_runs_created_at_check
    check (created_at between '2000-01-01 00:00:00+00' and '9999-12-31 00:00:00+00')
);

create index comfyui_workflow_runs_own_idx on public.comfyui_workflow_runs (user_id, created_at desc, id desc);
create index comfyui_workflow_runs_workflow_idx
  on public.comfyui_workflow_runs (workflow_id, user_id, created_at desc, id desc);
-- What the claim walks: see migration run_queue.
create index comfyui_workflow_runs_pending_idx on public.comfyui_workflow_runs (user_id, created_at, id)
  where status = 'pending';
create index comfyui_workflow_runs_lease_idx on public.comfyui_workflow_runs (lease_until) where status = 'running';
create index comfyui_workflow_runs_running_idx on public.comfyui_workflow_runs (user_id) where status = 'running';

create trigger comfyui_workflow_runs_owner before insert on public.comfyui_workflow_runs
  for each row execute function atelier.ensure_owner();

alter table public.comfyui_workflow_runs enable row level security;
alter table public.comfyui_workflow_runs force row level security;
revoke all on table public.comfyui_workflow_runs from anon, authenticated, service_role, public;
-- Not the claim: who knew its token could speak as the worker.
grant select (
    id, user_id, workflow_id, status, phase, input_params, graph, nodes_total, lora_ids, attempt, comfyui_prompt_id,
    backend, cancel_requested_at, progress, nodes_done, nodes_reported, current_node, step, steps, error_code, error_message,
    error_node_id, error_node_type, event_count, created_at, started_at, completed_at
  ) on table public.comfyui_workflow_runs to authenticated;
grant insert (id, user_id, workflow_id, input_params, graph, nodes_total, lora_ids, created_at),
  update (status, cancel_requested_at, completed_at)
  on table public.comfyui_workflow_runs to atelier_writer;
grant select, insert, update, delete on table public.comfyui_workflow_runs to service_role;
create policy comfyui_workflow_runs_select on public.comfyui_workflow_runs
  for select to authenticated using (user_id = (select auth.uid()));
-- The inner select is under the person's own policies: nobody runs a workflow that they do not see.
create policy comfyui_workflow_runs_insert on public.comfyui_workflow_runs
  for insert to atelier_writer with check (
    user_id = (select auth.uid())
    and (
      workflow_id is null
      or exists (select from public.comfyui_workflows as visible where visible.id = workflow_id)
    )
  );
-- Cancelling, and nothing else.
create policy comfyui_workflow_runs_update on public.comfyui_workflow_runs
  for update to atelier_writer
  using (user_id = (select auth.uid()) and status in ('pending', 'running'))
  with check (
    user_id = (select auth.uid()) and status in ('running', 'cancelled') and cancel_requested_at is not null
  );

-- ---------------------------------------------------------------------------------------------------------- events

create table public.comfyui_run_events (
  run_id uuid not null references public.comfyui_workflow_runs (id) on delete cascade,
  sequence bigint not null,
  user_id uuid not null,
  kind text not null,
  data json not null,
  created_at timestamptz not null default clock_timestamp(),
  primary key (run_id, sequence),
  constraint comfyui_run_events_sequence_check check (sequence >= 1),
  constraint comfyui_run_events_kind_check check (kind in ('status', 'phase', 'progress', 'output', 'error')),
  constraint comfyui_run_events_data_check check (octet_length(data::text) <= 1048576)
);

alter table public.comfyui_run_events enable row level security;
alter table public.comfyui_run_events force row level security;
revoke all on table public.comfyui_run_events from anon, authenticated, service_role, public;
grant select on table public.comfyui_run_events to authenticated;
grant select, insert, update, delete on table public.comfyui_run_events to service_role;
create policy comfyui_run_events_select on public.comfyui_run_events
  for select to authenticated using (user_id = (select auth.uid()));

-- --------------------------------------------------------------------------------------------------------- outputs

create table public.comfyui_run_outputs (
  run_id uuid not null references public.comfyui_workflow_runs (id) on delete cascade,
  index integer not null,
  user_id uuid not null,
  node_id text not null,
  kind text not null,
  filename text not null,
  content_type text not null,
  size_bytes bigint not null,
  sha256 text not null,
  width bigint,
  height bigint,
  blob_key text not null,
  primary key (run_id, index),
  constraint comfyui_run_outputs_kind_check check (kind in ('image', 'video', 'audio', 'text', 'file')),
  constraint comfyui_run_outputs_sizes_check check (
    index >= 0 and size_bytes >= 0 and width between 0 and 4294967295 and height between 0 and 4294967295
    and (width is null) = (height is null)
  ),
  constraint comfyui_run_outputs_sha256_check check (sha256 ~ '^[0-9a-f]{64}$'),
  constraint comfyui_run_outputs_texts_check check (
    char_length(node_id) <= 1000 and char_length(filename) <= 1000 and char_length(content_type) <= 1000
    and octet_length(blob_key) <= 1000
  )
);

alter table public.comfyui_run_outputs enable row level security;
alter table public.comfyui_run_outputs force row level security;
revoke all on table public.comfyui_run_outputs from anon, authenticated, service_role, public;
grant select on table public.comfyui_run_outputs to authenticated;
grant select, insert, update, delete on table public.comfyui_run_outputs to service_role;
create policy comfyui_run_outputs_select on public.comfyui_run_outputs
  for select to authenticated using (user_id = (select auth.uid()));
