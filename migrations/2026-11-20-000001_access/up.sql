-- Who reaches the database, and the parts of Supabase Auth that the policies lean on.
--
-- Everything here is made only where it is absent: on a Supabase database nothing but our own roles and our own schema
-- is new. Nothing that is there already is altered.

do $access$
declare
  spec record;
begin
  for spec in
    select * from (values
      -- The three roles of Supabase's API.
      ('anon',           'nologin inherit'),
      ('authenticated',  'nologin inherit'),
      ('service_role',   'nologin inherit bypassrls'),
      -- Acts for one signed-in person, like `authenticated`, with the rights that only the server has: no access token
      -- makes anybody this role.
      ('atelier_writer', 'nologin inherit'),
      -- What the server logs in as. It owns nothing and may do nothing until it becomes another role, so that a
      -- forgotten switch fails. Its password is the operator's to set.
      ('atelier_app',    'login noinherit')
    ) as wanted (name, options)
  loop
    if not exists (select from pg_catalog.pg_roles where rolname = spec.name) then
      begin
        execute format('create role %I %s', spec.name, spec.options);
      exception when duplicate_object or unique_violation then
        null; -- another database of this cluster was migrated at the same moment
      end;
    end if;
  end loop;

  for spec in
    select * from (values
      ('authenticated',  'atelier_writer'),
      ('authenticated',  'atelier_app'),
      ('atelier_writer', 'atelier_app'),
      ('service_role',   'atelier_app')
    ) as wanted (granted, member)
  loop
    if not exists (
      select from pg_catalog.pg_auth_members as membership
      where membership.roleid = spec.granted::regrole and membership.member = spec.member::regrole
    ) then
      begin
        execute format('grant %I to %I', spec.granted, spec.member);
      exception when unique_violation then
        null;
      end;
    end if;
  end loop;

  if to_regnamespace('auth') is null then
    create schema auth;
    comment on schema auth is 'Made by Atelier in place of Supabase Auth.';
    grant usage on schema auth to anon, authenticated, service_role;
  end if;

  -- As in Supabase Auth's own migrations: the older setting, one for each claim, wins.
  if to_regprocedure('auth.uid()') is null then
    create function auth.uid() returns uuid language sql stable as $function$
      select coalesce(
        nullif(current_setting('request.jwt.claim.sub', true), ''),
        nullif(current_setting('request.jwt.claims', true), '')::jsonb ->> 'sub'
      )::uuid
    $function$;
    comment on function auth.uid() is 'Made by Atelier in place of Supabase Auth.';
  end if;

  if to_regclass('auth.users') is null then
    create table auth.users (
      id uuid primary key,
      email varchar(255),
      created_at timestamptz default now()
    );
    comment on table auth.users is 'Made by Atelier in place of Supabase Auth.';
    alter table auth.users enable row level security;
  end if;

  -- Diesel's own ledger lies in an exposed schema, and older Supabase projects give the API roles every new table.
  if to_regclass('public.__diesel_schema_migrations') is not null then
    alter table public.__diesel_schema_migrations enable row level security;
    revoke all on table public.__diesel_schema_migrations from anon, authenticated, service_role, public;
  end if;
end
$access$;

grant usage on schema public to authenticated, service_role;

-- For what is nobody's to call through Supabase's Data API: that exposes `public` alone.
create schema atelier;
comment on schema atelier is 'Functions of Atelier. Never expose this schema through an API.';
revoke all on schema atelier from public;
grant usage on schema atelier to atelier_writer, service_role;
