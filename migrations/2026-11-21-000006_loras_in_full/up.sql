-- LoRAs in full: versions, more that is known of them, uploads in pieces, imports, copies that are asked for.

alter table public.comfyui_lora_models
  add column source_url text,
  add column blake3 text,
  -- SHA-256 of the tensors alone; its first 12 digits are the AutoV3.
  add column tensors_sha256 text,
  add column title text,
  add column network_rank integer,
  add column network_type text,
  add column base_model_confidence text,
  add column base_model_evidence text,
  -- The how-manyth bytes under this filename; null until they are ready.
  add column version integer,
  add column superseded_at timestamptz,
  -- Takes the place of another LoRA of this filename, which goes on until this one is ready.
  add column replaces boolean not null default false,
  -- Until when the next sign of life of bytes on their way is waited for.
  add column expires_at timestamptz not null default now() + interval '1 hour',
  drop constraint comfyui_lora_models_source_check,
  add constraint comfyui_lora_models_source_check check (
    source in ('upload', 'google_drive', 'url')
    and (source = 'google_drive') = (google_drive_file_id is not null)
    and (source = 'url') = (source_url is not null)
  ),
  add constraint comfyui_lora_models_hashes_check check (
    blake3 ~ '^[0-9a-f]{64}$' and tensors_sha256 ~ '^[0-9a-f]{64}$'
  ),
  add constraint comfyui_lora_models_facts_check check (
    char_length(title) <= 200 and network_rank >= 0 and char_length(network_type) <= 200
    and base_model_confidence in ('low', 'medium', 'high') and char_length(base_model_evidence) <= 1000
    and octet_length(source_url) <= 8000
  );

update public.comfyui_lora_models set
  version = case when status = 'ready' then 1 end,
  -- So far this was whatever the trainer wrote; a family is believed only with a reason.
  base_model = null,
  metadata = case when base_model is null then metadata
    else (metadata::jsonb || jsonb_build_object('base_model', base_model))::json end;

alter table public.comfyui_lora_models
  drop constraint comfyui_lora_models_ready_check,
  add constraint comfyui_lora_models_ready_check check (
    status <> 'ready' or (
      file_size is not null and sha256 is not null and comfyui_path is not null and blob_key is not null
      and version is not null
    )
  ),
  add constraint comfyui_lora_models_version_check check (version >= 1 and (superseded_at is null or status = 'ready')),
  add constraint comfyui_lora_models_base_model_check check (
    (base_model is null) = (base_model_confidence is null) and (base_model is null) = (base_model_evidence is null)
  );

-- One LoRA holds a filename; those that want to take its place stand beside it until they are ready.
drop index public.comfyui_lora_models_filename_key;
create unique index comfyui_lora_models_filename_key on public.comfyui_lora_models (user_id, filename)
  where deleted_at is null and superseded_at is null and (status = 'ready' or not replaces);
create index comfyui_lora_models_versions_idx on public.comfyui_lora_models (user_id, filename, version)
  where deleted_at is null;
create index comfyui_lora_models_path_idx on public.comfyui_lora_models (comfyui_path);
drop index public.comfyui_lora_models_unfinished_idx;
create index comfyui_lora_models_unfinished_idx on public.comfyui_lora_models (expires_at)
  where status in ('uploading', 'importing') and deleted_at is null;

-- ------------------------------------------------------------------------------------------------ uploads in pieces

create table public.comfyui_lora_uploads (
  -- No reference: the pieces are deleted from the blob store by this row, which may outlive its LoRA.
  lora_id uuid primary key,
  user_id uuid not null references public.comfyui_users (id) on delete cascade,
  length bigint not null,
  bytes_done bigint not null default 0,
  piece_count integer not null default 0,
  metadata text not null,
  created_at timestamptz not null default now(),
  constraint comfyui_lora_uploads_sizes_check check (bytes_done between 0 and length and piece_count >= 0),
  constraint comfyui_lora_uploads_metadata_check check (octet_length(metadata) <= 65536)
);
create index comfyui_lora_uploads_user_idx on public.comfyui_lora_uploads (user_id);

create table public.comfyui_lora_upload_pieces (
  lora_id uuid not null references public.comfyui_lora_uploads (lora_id) on delete cascade,
  user_id uuid not null references public.comfyui_users (id) on delete cascade,
  starts_at bigint not null,
  size_bytes bigint not null,
  blob_key text not null,
  primary key (lora_id, starts_at),
  constraint comfyui_lora_upload_pieces_sizes_check check (starts_at >= 0 and size_bytes > 0),
  constraint comfyui_lora_upload_pieces_key_check
    check (octet_length(blob_key) <= 1000 and starts_with(blob_key, 'user-' || user_id || '/uploads/' || lora_id || '/'))
);
create index comfyui_lora_upload_pieces_user_idx on public.comfyui_lora_upload_pieces (user_id);

alter table public.comfyui_lora_uploads enable row level security;
alter table public.comfyui_lora_uploads force row level security;
revoke all on table public.comfyui_lora_uploads from anon, authenticated, service_role, public;
grant select, insert, update on table public.comfyui_lora_uploads to atelier_writer;
grant select, insert, update, delete on table public.comfyui_lora_uploads to service_role;
create policy comfyui_lora_uploads_select on public.comfyui_lora_uploads
  for select to atelier_writer using (user_id = (select auth.uid()));
create policy comfyui_lora_uploads_insert on public.comfyui_lora_uploads
  for insert to atelier_writer with check (user_id = (select auth.uid()));
create policy comfyui_lora_uploads_update on public.comfyui_lora_uploads
  for update to atelier_writer using (user_id = (select auth.uid())) with check (user_id = (select auth.uid()));

alter table public.comfyui_lora_upload_pieces enable row level security;
alter table public.comfyui_lora_upload_pieces force row level security;
revoke all on table public.comfyui_lora_upload_pieces from anon, authenticated, service_role, public;
grant select, insert on table public.comfyui_lora_upload_pieces to atelier_writer;
grant select, insert, update, delete on table public.comfyui_lora_upload_pieces to service_role;
create policy comfyui_lora_upload_pieces_select on public.comfyui_lora_upload_pieces
  for select to atelier_writer using (user_id = (select auth.uid()));
create policy comfyui_lora_upload_pieces_insert on public.comfyui_lora_upload_pieces
  for insert to atelier_writer with check (user_id = (select auth.uid()));

-- --------------------------------------------------------------------------------------------------------- transfers

-- What workers bring to where it belongs. No credential is ever kept here: a transfer that needs somebody's own is `held`
-- by the process that got it.
create table public.comfyui_lora_transfers (
  lora_id uuid primary key references public.comfyui_lora_models (id) on delete cascade,
  user_id uuid not null references public.comfyui_users (id) on delete cascade,
  -- Null for bytes that are in the pieces of an upload.
  remote json,
  held boolean not null default false,
  claim_token uuid,
  claimed_by text,
  lease_until timestamptz,
  attempt integer not null default 0,
  not_before timestamptz not null default now(),
  created_at timestamptz not null default now(),
  constraint comfyui_lora_transfers_claim_check
    check ((claim_token is null) = (lease_until is null) and (claim_token is null) = (claimed_by is null)),
  constraint comfyui_lora_transfers_texts_check
    check (char_length(claimed_by) <= 1000 and octet_length(remote::text) <= 65536 and attempt >= 0)
);
create index comfyui_lora_transfers_waiting_idx on public.comfyui_lora_transfers (not_before) where claim_token is null;
create index comfyui_lora_transfers_lease_idx on public.comfyui_lora_transfers (lease_until) where claim_token is not null;
create index comfyui_lora_transfers_user_idx on public.comfyui_lora_transfers (user_id);

alter table public.comfyui_lora_transfers enable row level security;
alter table public.comfyui_lora_transfers force row level security;
revoke all on table public.comfyui_lora_transfers from anon, authenticated, service_role, public;
grant select, insert on table public.comfyui_lora_transfers to atelier_writer;
grant select, insert, update, delete on table public.comfyui_lora_transfers to service_role;
create policy comfyui_lora_transfers_select on public.comfyui_lora_transfers
  for select to atelier_writer using (user_id = (select auth.uid()));
create policy comfyui_lora_transfers_insert on public.comfyui_lora_transfers
  for insert to atelier_writer with check (user_id = (select auth.uid()));

-- Workers that wait for runs look for transfers as well: what begins, or is given back to be taken up at once, wakes them
-- with the news of a run that does not exist.
create function atelier.announce_lora_transfer() returns trigger
language plpgsql security definer set search_path = '' as $function$
begin
  if new.claim_token is null and new.not_before <= clock_timestamp() then
    perform pg_catalog.pg_notify('atelier_runs', '00000000-0000-0000-0000-000000000000 queued');
  end if;
  return null;
end
$function$;
revoke all on function atelier.announce_lora_transfer() from public;
create trigger comfyui_lora_transfers_announce after insert or update of claim_token on public.comfyui_lora_transfers
  for each row execute function atelier.announce_lora_transfer();

-- Takes the transfer that has waited longest, or none. Those that nobody wants any more are cleared away on the way, and
-- those fail whose credential went with the process that held it.
--
-- Waits for nobody: what is locked this very moment is in other hands.
create function atelier.claim_lora_transfer(
  token uuid, worker text, lease interval, gone_code text, gone_message text
) returns table (of_lora uuid, remote_file json, attempt_number integer)
language plpgsql set search_path = '' as $function$
declare
  moment timestamptz := clock_timestamp();
  passed uuid[] := '{}';
  chosen uuid;
  is_held boolean;
  is_wanted boolean;
begin
  loop
    select free.lora_id into chosen from (
      (select waiting.lora_id, waiting.not_before as since from public.comfyui_lora_transfers as waiting
        where waiting.claim_token is null and waiting.not_before <= moment and waiting.lora_id <> all (passed)
        order by waiting.not_before limit 1)
      union all
      (select lost.lora_id, lost.lease_until from public.comfyui_lora_transfers as lost
        where lost.claim_token is not null and lost.lease_until <= moment and lost.lora_id <> all (passed)
        order by lost.lease_until limit 1)
    ) as free order by free.since limit 1;
    if not found then
      return;
    end if;
    passed := passed || chosen;
    select transfer.held, lora.deleted_at is null and lora.status in ('uploading', 'importing')
      into is_held, is_wanted
      from public.comfyui_lora_models as lora
      join public.comfyui_lora_transfers as transfer on transfer.lora_id = lora.id
      where lora.id = chosen and coalesce(transfer.lease_until, transfer.not_before) <= moment
      for no key update of lora, transfer skip locked;
    continue when not found;
    if is_wanted and not is_held then
      return query
        update public.comfyui_lora_transfers as transfer set
          claim_token = token, claimed_by = worker, lease_until = clock_timestamp() + lease,
          attempt = transfer.attempt + 1
        where transfer.lora_id = chosen
        returning transfer.lora_id, transfer.remote, transfer.attempt;
      return;
    end if;
    if is_wanted then
      update public.comfyui_lora_models as lora set
        status = 'failed', error_code = gone_code, error_message = gone_message, touched_at = now()
        where lora.id = chosen;
    end if;
    delete from public.comfyui_lora_transfers as transfer where transfer.lora_id = chosen;
  end loop;
end
$function$;
revoke all on function atelier.claim_lora_transfer(uuid, text, interval, text, text) from public;
grant execute on function atelier.claim_lora_transfer(uuid, text, interval, text, text) to service_role;

-- ------------------------------------------------------------------------------------------------ copies on backends

-- LoRAs that a backend is to get before a run needs them.
create table public.comfyui_lora_prefetches (
  lora_id uuid not null references public.comfyui_lora_models (id) on delete cascade,
  backend text not null,
  requested_at timestamptz not null default clock_timestamp(),
  -- When a worker took it up; it counts as asked for while the copy may be under way.
  taken_at timestamptz,
  primary key (lora_id, backend),
  constraint comfyui_lora_prefetches_backend_check check (char_length(backend) <= 1000)
);
create index comfyui_lora_prefetches_backend_idx on public.comfyui_lora_prefetches (backend, requested_at);
alter table public.comfyui_lora_prefetches enable row level security;
alter table public.comfyui_lora_prefetches force row level security;
revoke all on table public.comfyui_lora_prefetches from anon, authenticated, service_role, public;
grant select, insert, update, delete on table public.comfyui_lora_prefetches to service_role;

-- Where own LoRAs are, and where they are asked for. Security definer: backends are nobody's to list, but these are told
-- to whoever owns a LoRA.
create function atelier.lora_copies(of_loras uuid[])
returns table (backend text, lora_id uuid, state text)
language sql stable security definer set search_path = '' as $function$
  select told.name, lora.id,
    case
      when exists (select from public.comfyui_lora_copies as copy
        where copy.lora_id = lora.id and copy.backend = told.name) then 'present'
      when exists (select from public.comfyui_lora_prefetches as wanted
        where wanted.lora_id = lora.id and wanted.backend = told.name) then 'requested'
      else 'absent'
    end
  from public.comfyui_lora_models as lora
  cross join (
    select distinct backend.name from public.comfyui_backends as backend
    where backend.told_at > clock_timestamp() - interval '15 seconds'
  ) as told
  where lora.id = any (of_loras) and lora.user_id = (select auth.uid()) and lora.deleted_at is null
  order by told.name, lora.id
$function$;
revoke all on function atelier.lora_copies(uuid[]) from public;
grant execute on function atelier.lora_copies(uuid[]) to authenticated, atelier_writer;

create function atelier.request_lora_copies(of_lora uuid) returns void
language sql security definer set search_path = '' as $function$
  insert into public.comfyui_lora_prefetches (lora_id, backend)
    select copy.lora_id, copy.backend from atelier.lora_copies(array[of_lora]) as copy where copy.state = 'absent'
    on conflict do nothing
$function$;
revoke all on function atelier.request_lora_copies(uuid) from public;
grant execute on function atelier.request_lora_copies(uuid) to atelier_writer;

-- ------------------------------------------------------------------------------------------------------ installation

-- What tells this database from every other: a blob store carries its name.
create table public.comfyui_installation (
  is_only boolean primary key default true,
  id uuid not null default gen_random_uuid(),
  constraint comfyui_installation_is_only_check check (is_only)
);
insert into public.comfyui_installation default values;
alter table public.comfyui_installation enable row level security;
alter table public.comfyui_installation force row level security;
revoke all on table public.comfyui_installation from anon, authenticated, service_role, public;
grant select on table public.comfyui_installation to service_role;
