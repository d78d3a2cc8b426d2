-- People, their workflows and their LoRAs.
--
-- Older Supabase projects give every new table of `public` to the API roles, newer ones to nobody: so each table first
-- takes everything back and then grants what is needed.

-- ---------------------------------------------------------------------------------------------------------- people

create table public.comfyui_users (
  id uuid primary key,
  created_at timestamptz not null default now(),
  -- What the queue needs to be fair; see migration run_queue.
  last_served_at timestamptz not null default '-infinity',
  pending_runs bigint not null default 0,
  -- An index on the count itself would make every new run of a busy person an index update.
  has_pending boolean not null generated always as (pending_runs > 0) stored,
  constraint comfyui_users_pending_runs_check check (pending_runs >= 0)
);
comment on table public.comfyui_users is 'Everybody who ever stored something; the row is made by the first write.';

do $users$
begin
  -- Where Supabase Auth keeps the accounts, deleting one deletes what it owned. Where people come by another way, such
  -- as Cloudflare Access on a database of ours, there is no account to point at.
  if obj_description('auth.users'::regclass, 'pg_class') is distinct from
     'Made by Atelier in place of Supabase Auth.' then
    alter table public.comfyui_users
      add constraint comfyui_users_account_fkey foreign key (id) references auth.users (id) on delete cascade;
  end if;
end
$users$;

alter table public.comfyui_users enable row level security;
alter table public.comfyui_users force row level security;
revoke all on table public.comfyui_users from anon, authenticated, service_role, public;
grant select (id, created_at) on table public.comfyui_users to authenticated;
grant select, insert, update, delete on table public.comfyui_users to service_role;
create policy comfyui_users_select on public.comfyui_users
  for select to authenticated using (id = (select auth.uid()));

-- Makes the owner's row with their first write. Security definer: nobody else inserts people.
create function atelier.ensure_owner() returns trigger
language plpgsql security definer set search_path = '' as $function$
begin
  insert into public.comfyui_users (id) values (new.user_id) on conflict (id) do nothing;
  return new;
end
$function$;
revoke all on function atelier.ensure_owner() from public;

-- The domain's rules for tags, so that a row written past the server cannot break a list.
create function atelier.are_tags(tags text[]) returns boolean
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
revoke all on function atelier.are_tags(text[]) from public;
grant execute on function atelier.are_tags(text[]) to authenticated, service_role;

-- ------------------------------------------------------------------------------------------------------- workflows

create table public.comfyui_workflows (
  id uuid primary key,
  user_id uuid not null references public.comfyui_users (id) on delete cascade,
  name text not null,
  description text,
  -- `json`, not `jsonb`: the text is handed out as it came in, and nothing in it is ever searched for.
  workflow_json json not null,
  is_public boolean not null default false,
  tags text[] not null default '{}',
  revision bigint not null default 1,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  constraint comfyui_workflows_name_check check (
    char_length(name) <= 200
    and name !~ '[\u0001-\u001f\u007f-\u009f]'
    and name ~ '[^\u0020\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]'
  ),
  constraint comfyui_workflows_description_check check (
    char_length(description) <= 10000
    and description !~ '[\u0001-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f]'
  ),
  constraint comfyui_workflows_workflow_json_check check (octet_length(workflow_json::text) <= 16777216),
  constraint comfyui_workflows_tags_check check (tags = '{}' or atelier.are_tags(tags)),
  constraint comfyui_workflows_revision_check check (revision >= 1),
  constraint comfyui_workflows_created_at_check
    check (created_at between '2000-01-01 00:00:00+00' and '9999-12-31 00:00:00+00'),
  constraint comfyui_workflows_updated_at_check
    check (updated_at between '2000-01-01 00:00:00+00' and '9999-12-31 00:00:00+00')
);

-- A list is a merge of two branches, each in the order of its index: one's own, and what others made public.
create index comfyui_workflows_own_idx on public.comfyui_workflows (user_id, created_at desc, id desc);
create index comfyui_workflows_public_idx on public.comfyui_workflows (created_at desc, id desc) where is_public;

create function atelier.raise_revision() returns trigger language plpgsql set search_path = '' as $function$
begin
  new.revision := old.revision + 1;
  return new;
end
$function$;
revoke all on function atelier.raise_revision() from public;

create trigger comfyui_workflows_owner before insert on public.comfyui_workflows
  for each row execute function atelier.ensure_owner();
create trigger comfyui_workflows_revision before update on public.comfyui_workflows
  for each row execute function atelier.raise_revision();

alter table public.comfyui_workflows enable row level security;
alter table public.comfyui_workflows force row level security;
revoke all on table public.comfyui_workflows from anon, authenticated, service_role, public;
grant select, delete,
  insert (id, user_id, name, description, workflow_json, is_public, tags, created_at, updated_at),
  update (name, description, workflow_json, is_public, tags, updated_at)
  on table public.comfyui_workflows to authenticated;
grant select, insert, update, delete on table public.comfyui_workflows to service_role;
create policy comfyui_workflows_select on public.comfyui_workflows
  for select to authenticated using (user_id = (select auth.uid()) or is_public);
create policy comfyui_workflows_insert on public.comfyui_workflows
  for insert to authenticated with check (user_id = (select auth.uid()));
create policy comfyui_workflows_update on public.comfyui_workflows
  for update to authenticated using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));
create policy comfyui_workflows_delete on public.comfyui_workflows
  for delete to authenticated using (user_id = (select auth.uid()));

-- ----------------------------------------------------------------------------------------------------------- LoRAs

create table public.comfyui_lora_models (
  id uuid primary key,
  user_id uuid not null references public.comfyui_users (id) on delete cascade,
  name text not null,
  filename text not null,
  description text,
  tags text[] not null default '{}',
  status text not null,
  source text not null,
  google_drive_file_id text,
  bytes_done bigint not null default 0,
  bytes_total bigint,
  file_size bigint,
  sha256 text,
  comfyui_path text,
  base_model text,
  trigger_words text[] not null default '{}',
  metadata json not null default '{}',
  error_code text,
  error_message text,
  -- Null once the object is known to be gone.
  blob_key text,
  created_at timestamptz not null default now(),
  -- When the last of its bytes was heard of.
  touched_at timestamptz not null default now(),
  -- Gone for its owner; the row stays until its object is cleaned away.
  deleted_at timestamptz,
  constraint comfyui_lora_models_status_check check (status in ('uploading', 'importing', 'ready', 'failed')),
  constraint comfyui_lora_models_source_check check (
    source in ('upload', 'google_drive') and (source = 'google_drive') = (google_drive_file_id is not null)
  ),
  constraint comfyui_lora_models_ready_check check (
    status <> 'ready' or (
      file_size is not null and sha256 is not null and comfyui_path is not null and blob_key is not null
    )
  ),
  constraint comfyui_lora_models_failed_check check (
    (status = 'failed') = (error_code is not null and error_message is not null)
  ),
  constraint comfyui_lora_models_sizes_check check (bytes_done >= 0 and bytes_total >= 0 and file_size >= 0),
  constraint comfyui_lora_models_sha256_check check (sha256 ~ '^[0-9a-f]{64}$'),
  constraint comfyui_lora_models_path_check check (starts_with(comfyui_path, 'user-' || user_id || '/')),
  constraint comfyui_lora_models_blob_key_check check (starts_with(blob_key, 'user-' || user_id || '/')),
  constraint comfyui_lora_models_tags_check check (tags = '{}' or atelier.are_tags(tags)),
  constraint comfyui_lora_models_texts_check check (
    char_length(name) <= 200 and octet_length(filename) <= 200 and char_length(description) <= 10000
    and char_length(google_drive_file_id) <= 200 and char_length(base_model) <= 10000
    and char_length(error_code) <= 200 and char_length(error_message) <= 10000
    and octet_length(comfyui_path) <= 300 and octet_length(blob_key) <= 1000
    and cardinality(trigger_words) <= 10000 and octet_length(metadata::text) <= 33554432
  )
);

create index comfyui_lora_models_own_idx on public.comfyui_lora_models (user_id, created_at desc, id desc);
-- Of one person alone: a constraint over everybody's rows would tell what others have.
create unique index comfyui_lora_models_filename_key on public.comfyui_lora_models (user_id, filename)
  where deleted_at is null;
create unique index comfyui_lora_models_blob_key_key on public.comfyui_lora_models (blob_key);
create index comfyui_lora_models_deleted_idx on public.comfyui_lora_models (deleted_at) where deleted_at is not null;
create index comfyui_lora_models_unfinished_idx on public.comfyui_lora_models (touched_at)
  where status in ('uploading', 'importing') and deleted_at is null;
create index comfyui_lora_models_failed_idx on public.comfyui_lora_models (created_at)
  where status = 'failed' and blob_key is not null and deleted_at is null;

create trigger comfyui_lora_models_owner before insert on public.comfyui_lora_models
  for each row execute function atelier.ensure_owner();

alter table public.comfyui_lora_models enable row level security;
alter table public.comfyui_lora_models force row level security;
revoke all on table public.comfyui_lora_models from anon, authenticated, service_role, public;
grant select on table public.comfyui_lora_models to authenticated;
grant insert, update on table public.comfyui_lora_models to atelier_writer;
grant select, insert, update, delete on table public.comfyui_lora_models to service_role;
create policy comfyui_lora_models_select on public.comfyui_lora_models
  for select to authenticated using (user_id = (select auth.uid()) and deleted_at is null);
-- Who marks a row as deleted must see it afterwards, or Postgres refuses the update.
create policy comfyui_lora_models_select_deleted on public.comfyui_lora_models
  for select to atelier_writer using (user_id = (select auth.uid()));
create policy comfyui_lora_models_insert on public.comfyui_lora_models
  for insert to atelier_writer with check (user_id = (select auth.uid()));
create policy comfyui_lora_models_update on public.comfyui_lora_models
  for update to atelier_writer using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

-- Which bytes a path on a backend ever stood for. ComfyUI does not notice new bytes under an old name, so a row outlives
-- its LoRA: a path is never given to other bytes.
create table public.comfyui_lora_paths (
  comfyui_path text primary key,
  user_id uuid not null references public.comfyui_users (id) on delete cascade,
  sha256 text not null,
  created_at timestamptz not null default now(),
  constraint comfyui_lora_paths_path_check
    check (octet_length(comfyui_path) <= 300 and starts_with(comfyui_path, 'user-' || user_id || '/')),
  constraint comfyui_lora_paths_sha256_check check (sha256 ~ '^[0-9a-f]{64}$')
);
create index comfyui_lora_paths_user_idx on public.comfyui_lora_paths (user_id);

alter table public.comfyui_lora_paths enable row level security;
alter table public.comfyui_lora_paths force row level security;
revoke all on table public.comfyui_lora_paths from anon, authenticated, service_role, public;
grant select, insert on table public.comfyui_lora_paths to atelier_writer;
grant select, insert, update, delete on table public.comfyui_lora_paths to service_role;
create policy comfyui_lora_paths_select on public.comfyui_lora_paths
  for select to atelier_writer using (user_id = (select auth.uid()));
create policy comfyui_lora_paths_insert on public.comfyui_lora_paths
  for insert to atelier_writer with check (user_id = (select auth.uid()));

-- Takes the first of the paths that is free or stands for these very bytes.
create function atelier.take_lora_path(owner uuid, candidates text[], digest text) returns text
language plpgsql set search_path = '' as $function$
declare
  candidate text;
begin
  foreach candidate in array candidates loop
    insert into public.comfyui_lora_paths (comfyui_path, user_id, sha256)
      values (candidate, owner, digest)
      on conflict (comfyui_path) do nothing;
    perform from public.comfyui_lora_paths as taken
      where taken.comfyui_path = candidate and taken.user_id = owner and taken.sha256 = digest;
    if found then
      return candidate;
    end if;
  end loop;
  raise exception 'none of the paths is free';
end
$function$;
revoke all on function atelier.take_lora_path(uuid, text[], text) from public;
grant execute on function atelier.take_lora_path(uuid, text[], text) to atelier_writer, service_role;
