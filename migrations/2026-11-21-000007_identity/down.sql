drop trigger comfyui_users_audit on public.comfyui_users;
drop trigger comfyui_lora_models_audit on public.comfyui_lora_models;
drop trigger comfyui_workflows_audit_delete on public.comfyui_workflows;
drop trigger comfyui_workflows_audit_update on public.comfyui_workflows;
drop trigger comfyui_workflows_audit_insert on public.comfyui_workflows;
drop function atelier.use_api_token(text);
drop table public.comfyui_api_tokens;
drop function atelier.resolve_identity(text, text, text, uuid, boolean);
drop trigger comfyui_users_account on public.comfyui_users;
drop function atelier.link_account();
do $accounts$
begin
  if atelier.has_accounts() then
    -- The older shape has no room for people without an account.
    delete from public.comfyui_users where account_id is null;
    alter table public.comfyui_users
      drop constraint comfyui_users_account_fkey,
      add constraint comfyui_users_account_fkey foreign key (id) references auth.users (id) on delete cascade;
  end if;
end
$accounts$;
drop table public.comfyui_external_identities;
alter table public.comfyui_users drop column account_id;
drop table public.comfyui_audit_events;
drop function atelier.audit();
drop function atelier.is_barred(uuid);
drop function atelier.has_accounts();
create or replace function atelier.ensure_owner() returns trigger
language plpgsql security definer set search_path = '' as $function$
begin
  insert into public.comfyui_users (id) values (new.user_id) on conflict (id) do nothing;
  return new;
end
$function$;
