-- Who people are beyond Supabase Auth: identities of other providers, personal tokens, and the trail of what matters.

-- -------------------------------------------------------------------------------------------------------- accounts

-- Whether Supabase Auth keeps the accounts of this database.
create function atelier.has_accounts() returns boolean language sql stable set search_path = '' as $function$
  select pg_catalog.obj_description('auth.users'::regclass, 'pg_class') is distinct from
    'Made by Atelier in place of Supabase Auth.'
$function$;
revoke all on function atelier.has_accounts() from public;

-- A person need not have an account: who comes through Cloudflare Access may have none. Where there is one, deleting it
-- deletes what it owned, as before.
alter table public.comfyui_users
  add column account_id uuid,
  add constraint comfyui_users_account_check check (account_id = id);
do $accounts$
begin
  if atelier.has_accounts() then
    update public.comfyui_users set account_id = id;
    alter table public.comfyui_users
      drop constraint comfyui_users_account_fkey,
      add constraint comfyui_users_account_fkey foreign key (account_id) references auth.users (id) on delete cascade;
    create unique index comfyui_users_account_key on public.comfyui_users (account_id);
  end if;
end
$accounts$;

-- Whether somebody's account was banned, or deleted and kept as Supabase Auth can. Their access tokens end within the
-- hour; what stands for them here would not.
create function atelier.is_barred(person uuid) returns boolean
language plpgsql stable security definer set search_path = '' as $function$
begin
  if not atelier.has_accounts() then
    return false;
  end if;
  return exists (
    select from auth.users as account where account.id = person
      and (account.deleted_at is not null or account.banned_until > clock_timestamp())
  );
end
$function$;
revoke all on function atelier.is_barred(uuid) from public;
grant execute on function atelier.is_barred(uuid) to service_role;

-- ------------------------------------------------------------------------------------------------------ identities

-- Whom another provider's subject stands for. Made once, at first sight, and never changed by a sign-in: who takes an
-- e-mail address over does not take a person's rows over.
create table public.comfyui_external_identities (
  issuer text not null,
  subject text not null,
  -- Written before the person's own row, which asks for it.
  user_id uuid not null references public.comfyui_users (id) on delete cascade deferrable initially deferred,
  -- As it was at first sight.
  email text not null,
  origin text not null,
  created_at timestamptz not null default now(),
  primary key (issuer, subject),
  constraint comfyui_external_identities_origin_check check (origin in ('email', 'provisioned')),
  constraint comfyui_external_identities_texts_check check (
    char_length(issuer) between 1 and 500 and char_length(subject) between 1 and 500 and char_length(email) <= 500
  )
);
create index comfyui_external_identities_user_idx on public.comfyui_external_identities (user_id);

alter table public.comfyui_external_identities enable row level security;
alter table public.comfyui_external_identities force row level security;
revoke all on table public.comfyui_external_identities from anon, authenticated, service_role, public;
grant select on table public.comfyui_external_identities to authenticated;
grant select, insert, update, delete on table public.comfyui_external_identities to service_role;
create policy comfyui_external_identities_select on public.comfyui_external_identities
  for select to authenticated using (user_id = (select auth.uid()));

-- Nobody gets a row of their own without an account or another provider's word. A token may outlive its account: what it
-- still writes must not bring the person back.
create function atelier.link_account() returns trigger
language plpgsql security definer set search_path = '' as $function$
begin
  if not atelier.has_accounts() then
    return new;
  end if;
  select account.id into new.account_id from auth.users as account where account.id = new.id;
  if new.account_id is null and not exists (
    select from public.comfyui_external_identities as identity where identity.user_id = new.id
  ) then
    raise exception 'the account is gone' using
      errcode = 'foreign_key_violation', table = 'comfyui_users', constraint = 'comfyui_users_account_fkey';
  end if;
  return new;
end
$function$;
revoke all on function atelier.link_account() from public;
create trigger comfyui_users_account before insert on public.comfyui_users
  for each row execute function atelier.link_account();

-- As before, but the account is asked about at the first write alone.
create or replace function atelier.ensure_owner() returns trigger
language plpgsql security definer set search_path = '' as $function$
begin
  if not exists (select from public.comfyui_users as person where person.id = new.user_id) then
    insert into public.comfyui_users (id) values (new.user_id) on conflict (id) do nothing;
  end if;
  return new;
end
$function$;

-- Says whom a verified identity stands for: `known`; at first sight `linked` to the one account with that confirmed
-- e-mail address, or `provisioned` with a new person if there is none and that is allowed. Refused are `unknown`,
-- `ambiguous` (several accounts) and `taken` (the account has another identity of this issuer already). Of somebody who is
-- barred nothing is known.
-- Security definer: accounts are nobody's to read.
create function atelier.resolve_identity(
  of_issuer text, of_subject text, of_email text, fresh uuid, may_provision boolean
) returns table (outcome text, person uuid)
language plpgsql security definer set search_path = '' as $function$
declare
  found_person uuid;
  accounts uuid[] := '{}';
begin
  select identity.user_id into found_person from public.comfyui_external_identities as identity
    where identity.issuer = of_issuer and identity.subject = of_subject;
  if found then
    if atelier.is_barred(found_person) then
      return query select 'unknown', null::uuid;
    else
      return query select 'known', found_person;
    end if;
    return;
  end if;
  -- One at a time for one address: two subjects that come at once are not both linked.
  perform pg_catalog.pg_advisory_xact_lock(
    pg_catalog.hashtextextended('atelier.identity ' || of_issuer || ' ' || lower(of_email), 0));
  select identity.user_id into found_person from public.comfyui_external_identities as identity
    where identity.issuer = of_issuer and identity.subject = of_subject;
  if found then
    return query select 'known', found_person;
    return;
  end if;
  if atelier.has_accounts() then
    select coalesce(array_agg(account.id), '{}') into accounts from auth.users as account
      where lower(account.email) = lower(of_email)
        and not account.is_sso_user and not account.is_anonymous
        and account.deleted_at is null and account.email_confirmed_at is not null;
  end if;
  if cardinality(accounts) > 1 then
    return query select 'ambiguous', null::uuid;
  elsif cardinality(accounts) = 1 then
    if atelier.is_barred(accounts[1]) then
      return query select 'unknown', null::uuid;
      return;
    end if;
    if exists (
      select from public.comfyui_external_identities as identity
      where identity.user_id = accounts[1] and identity.issuer = of_issuer
    ) then
      return query select 'taken', null::uuid;
      return;
    end if;
    insert into public.comfyui_external_identities (issuer, subject, user_id, email, origin)
      values (of_issuer, of_subject, accounts[1], of_email, 'email');
    insert into public.comfyui_users (id) values (accounts[1]) on conflict (id) do nothing;
    return query select 'linked', accounts[1];
  elsif may_provision then
    insert into public.comfyui_external_identities (issuer, subject, user_id, email, origin)
      values (of_issuer, of_subject, fresh, of_email, 'provisioned');
    insert into public.comfyui_users (id) values (fresh);
    return query select 'provisioned', fresh;
  else
    return query select 'unknown', null::uuid;
  end if;
end
$function$;
revoke all on function atelier.resolve_identity(text, text, text, uuid, boolean) from public;
grant execute on function atelier.resolve_identity(text, text, text, uuid, boolean) to service_role;

-- ---------------------------------------------------------------------------------------------------------- tokens

-- Personal tokens for scripts. Of the token itself only a digest is kept; a token is 32 random bytes, which no
-- dictionary holds, so that one round of SHA-256 is enough.
create table public.comfyui_api_tokens (
  id uuid primary key,
  user_id uuid not null references public.comfyui_users (id) on delete cascade,
  name text not null,
  token_sha256 text not null,
  scopes text[] not null,
  created_at timestamptz not null default now(),
  expires_at timestamptz,
  -- To the minute.
  last_used_at timestamptz,
  constraint comfyui_api_tokens_name_check check (char_length(name) between 1 and 200),
  constraint comfyui_api_tokens_token_sha256_check check (token_sha256 ~ '^[0-9a-f]{64}$'),
  constraint comfyui_api_tokens_scopes_check check (
    cardinality(scopes) >= 1 and scopes <@ array[
      'workflows:read', 'workflows:write', 'runs:read', 'runs:write', 'loras:read', 'loras:write'
    ]
  )
);
-- Over random bytes: it tells nobody anything.
create unique index comfyui_api_tokens_token_sha256_key on public.comfyui_api_tokens (token_sha256);
create index comfyui_api_tokens_own_idx on public.comfyui_api_tokens (user_id, created_at desc, id desc);

create trigger comfyui_api_tokens_owner before insert on public.comfyui_api_tokens
  for each row execute function atelier.ensure_owner();

alter table public.comfyui_api_tokens enable row level security;
alter table public.comfyui_api_tokens force row level security;
revoke all on table public.comfyui_api_tokens from anon, authenticated, service_role, public;
grant select (id, user_id, name, scopes, created_at, expires_at, last_used_at)
  on table public.comfyui_api_tokens to authenticated;
grant insert (id, user_id, name, token_sha256, scopes, created_at, expires_at), delete
  on table public.comfyui_api_tokens to atelier_writer;
grant select, insert, update, delete on table public.comfyui_api_tokens to service_role;
create policy comfyui_api_tokens_select on public.comfyui_api_tokens
  for select to authenticated using (user_id = (select auth.uid()));
create policy comfyui_api_tokens_insert on public.comfyui_api_tokens
  for insert to atelier_writer with check (user_id = (select auth.uid()));
create policy comfyui_api_tokens_delete on public.comfyui_api_tokens
  for delete to atelier_writer using (user_id = (select auth.uid()));

-- Finds the token that has this digest, unless its owner is barred, and notes that it was used, once a minute at most.
create function atelier.use_api_token(digest text) returns table (
  token_id uuid, person uuid, granted text[], expires timestamptz
) language plpgsql set search_path = '' as $function$
begin
  return query select token.id, token.user_id, token.scopes, token.expires_at
    from public.comfyui_api_tokens as token
    where token.token_sha256 = digest and not atelier.is_barred(token.user_id);
  if not found then
    return;
  end if;
  update public.comfyui_api_tokens as token set last_used_at = clock_timestamp()
    where token.token_sha256 = digest
      and (token.expires_at is null or token.expires_at > clock_timestamp())
      and (token.last_used_at is null or token.last_used_at < clock_timestamp() - interval '1 minute');
end
$function$;
revoke all on function atelier.use_api_token(text) from public;
grant execute on function atelier.use_api_token(text) to service_role;

-- ----------------------------------------------------------------------------------------------------------- trail

-- What was done or refused that matters to security. It outlives the people that it tells of, so it refers to nothing;
-- nobody but the database's owner changes or shortens it.
create table public.comfyui_audit_events (
  id bigint generated always as identity primary key,
  at timestamptz not null default clock_timestamp(),
  user_id uuid,
  action text not null,
  -- What it was done to, such as a token's id.
  target text,
  details json not null default '{}',
  constraint comfyui_audit_events_texts_check check (
    char_length(action) <= 100 and char_length(target) <= 1000 and octet_length(details::text) <= 16384
  )
);
create index comfyui_audit_events_user_idx on public.comfyui_audit_events (user_id, id desc);
create index comfyui_audit_events_at_idx on public.comfyui_audit_events (at);

alter table public.comfyui_audit_events enable row level security;
alter table public.comfyui_audit_events force row level security;
revoke all on table public.comfyui_audit_events from anon, authenticated, service_role, public;
grant select on table public.comfyui_audit_events to authenticated, service_role;
grant insert (user_id, action, target, details) on table public.comfyui_audit_events to service_role;
create policy comfyui_audit_events_select on public.comfyui_audit_events
  for select to authenticated using (user_id = (select auth.uid()));

-- Writes what changed into the trail, in the transaction that changes it. Security definer: nobody else writes there.
create function atelier.audit() returns trigger
language plpgsql security definer set search_path = '' as $function$
declare
  entry record;
begin
  if tg_op = 'DELETE' then entry := old; else entry := new; end if;
  if tg_table_name = 'comfyui_api_tokens' then
    insert into public.comfyui_audit_events (user_id, action, target, details) values (
      entry.user_id, case tg_op when 'INSERT' then 'token.created' else 'token.revoked' end, entry.id::text,
      json_build_object('name', entry.name, 'scopes', entry.scopes, 'expires_at', entry.expires_at));
  elsif tg_table_name = 'comfyui_external_identities' then
    insert into public.comfyui_audit_events (user_id, action, target, details) values (
      entry.user_id,
      case when tg_op = 'DELETE' then 'identity.removed' when entry.origin = 'email' then 'identity.linked'
        else 'identity.provisioned' end,
      entry.subject, json_build_object('issuer', entry.issuer));
  elsif tg_table_name = 'comfyui_workflows' then
    insert into public.comfyui_audit_events (user_id, action, target) values (
      entry.user_id,
      case when tg_op = 'DELETE' then 'workflow.deleted' when entry.is_public then 'workflow.published'
        else 'workflow.unpublished' end,
      entry.id::text);
  elsif tg_table_name = 'comfyui_lora_models' then
    insert into public.comfyui_audit_events (user_id, action, target, details) values (
      entry.user_id, 'lora.deleted', entry.id::text, json_build_object('filename', entry.filename));
  elsif tg_table_name = 'comfyui_users' then
    insert into public.comfyui_audit_events (user_id, action) values (entry.id, 'person.deleted');
  end if;
  return null;
end
$function$;
revoke all on function atelier.audit() from public;

create trigger comfyui_users_audit after delete on public.comfyui_users
  for each row execute function atelier.audit();
create trigger comfyui_api_tokens_audit after insert or delete on public.comfyui_api_tokens
  for each row execute function atelier.audit();
create trigger comfyui_external_identities_audit after insert or delete on public.comfyui_external_identities
  for each row execute function atelier.audit();
create trigger comfyui_workflows_audit_insert after insert on public.comfyui_workflows
  for each row when (new.is_public) execute function atelier.audit();
create trigger comfyui_workflows_audit_update after update on public.comfyui_workflows
  for each row when (new.is_public <> old.is_public) execute function atelier.audit();
create trigger comfyui_workflows_audit_delete after delete on public.comfyui_workflows
  for each row execute function atelier.audit();
create trigger comfyui_lora_models_audit after update on public.comfyui_lora_models
  for each row when (new.deleted_at is not null and old.deleted_at is null and new.status = 'ready')
  execute function atelier.audit();
