-- Supabase's image makes its roles without passwords; this is the one that Supabase Auth logs in as.
\set password `cat /run/secrets/postgres_password`
alter user supabase_auth_admin with password :'password';
