drop table public.comfyui_installation;
drop function atelier.request_lora_copies(uuid);
drop function atelier.lora_copies(uuid[]);
drop table public.comfyui_lora_prefetches;
drop function atelier.claim_lora_transfer(uuid, text, interval, text, text);
drop table public.comfyui_lora_transfers;
drop function atelier.announce_lora_transfer();
drop table public.comfyui_lora_upload_pieces;
drop table public.comfyui_lora_uploads;

-- What the older shape cannot hold goes: superseded versions, downloads from addresses, replacements on their way.
delete from public.comfyui_lora_models where superseded_at is not null or source = 'url' or (replaces and status <> 'ready');
drop index public.comfyui_lora_models_filename_key;
drop index public.comfyui_lora_models_versions_idx;
drop index public.comfyui_lora_models_path_idx;
drop index public.comfyui_lora_models_unfinished_idx;
alter table public.comfyui_lora_models
  drop constraint comfyui_lora_models_source_check,
  drop constraint comfyui_lora_models_hashes_check,
  drop constraint comfyui_lora_models_facts_check,
  drop constraint comfyui_lora_models_ready_check,
  drop constraint comfyui_lora_models_version_check,
  drop constraint comfyui_lora_models_base_model_check,
  drop column source_url,
  drop column blake3,
  drop column tensors_sha256,
  drop column title,
  drop column network_rank,
  drop column network_type,
  drop column base_model_confidence,
  drop column base_model_evidence,
  drop column version,
  drop column superseded_at,
  drop column replaces,
  drop column expires_at,
  add constraint comfyui_lora_models_source_check check (
    source in ('upload', 'google_drive') and (source = 'google_drive') = (google_drive_file_id is not null)
  ),
  add constraint comfyui_lora_models_ready_check check (
    status <> 'ready' or (
      file_size is not null and sha256 is not null and comfyui_path is not null and blob_key is not null
    )
  );
create unique index comfyui_lora_models_filename_key on public.comfyui_lora_models (user_id, filename)
  where deleted_at is null;
create index comfyui_lora_models_unfinished_idx on public.comfyui_lora_models (touched_at)
  where status in ('uploading', 'importing') and deleted_at is null;
