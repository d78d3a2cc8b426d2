-- Roles belong to the whole cluster, other databases of which may use them: they stay.

drop schema atelier cascade;

do $access$
begin
  if obj_description(to_regclass('auth.users'), 'pg_class') = 'Made by Atelier in place of Supabase Auth.' then
    drop table auth.users;
  end if;
  if obj_description(to_regprocedure('auth.uid()'), 'pg_proc') = 'Made by Atelier in place of Supabase Auth.' then
    drop function auth.uid();
  end if;
  if obj_description(to_regnamespace('auth'), 'pg_namespace') = 'Made by Atelier in place of Supabase Auth.' then
    drop schema auth;
  end if;
end
$access$;
