//! Who may do what, table by table: the matrix is generated from the catalogue, so a new table fails it until somebody
//! has said here what is expected of it.

use atelier_domain::actor::Actor;
use atelier_testkit::build::an_actor;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::expected_functions::EXPECTED_FUNCTIONS;
use crate::expected_rights::{ASKERS, EXPECTED, Expected, No, Outcome, Rows};
use crate::support::{Database, Kind};

struct People {
    alice: Actor,
    bob: Actor,
}

/// Gives alice a row or two in every table.
async fn seed(database: &Database) -> People {
    let people = People {
        alice: an_actor(),
        bob: an_actor(),
    };
    let alice = people.alice.user_id();
    database.give_everybody_accounts().await;
    let digest = "a".repeat(64);
    database
        .admin()
        .await
        .batch_execute(&format!(
            "insert into public.comfyui_workflows (id, user_id, name, workflow_json, is_public) values
               (gen_random_uuid(), '{alice}', 'private', '{{}}', false),
               (gen_random_uuid(), '{alice}', 'public', '{{}}', true);
             insert into public.comfyui_lora_models
               (id, user_id, name, filename, status, source, deleted_at) values
               ('11111111-1111-4111-8111-111111111111', '{alice}', 'a', 'a.safetensors', 'uploading', 'upload', null),
               ('22222222-2222-4222-8222-222222222222', '{alice}', 'b', 'b.safetensors', 'uploading', 'upload', now());
             insert into public.comfyui_lora_uploads (lora_id, user_id, length, metadata)
               values ('11111111-1111-4111-8111-111111111111', '{alice}', 10, '');
             insert into public.comfyui_lora_upload_pieces (lora_id, user_id, starts_at, size_bytes, blob_key)
               values ('11111111-1111-4111-8111-111111111111', '{alice}', 0, 4,
                 'user-{alice}/uploads/11111111-1111-4111-8111-111111111111/0');
             insert into public.comfyui_lora_transfers (lora_id, user_id)
               values ('11111111-1111-4111-8111-111111111111', '{alice}');
             insert into public.comfyui_lora_prefetches (lora_id, backend)
               values ('11111111-1111-4111-8111-111111111111', 'b');
             insert into public.comfyui_lora_paths values ('user-{alice}/a.safetensors', '{alice}', '{digest}');
             insert into public.comfyui_workflow_runs (id, user_id, graph, nodes_total)
               values (gen_random_uuid(), '{alice}', '{{}}', 1);
             insert into public.comfyui_run_outputs
               (run_id, index, user_id, node_id, kind, filename, content_type, size_bytes, sha256, blob_key)
               select id, 0, user_id, '9', 'image', 'a.png', 'image/png', 1, '{digest}', 'user-x/a.png'
               from public.comfyui_workflow_runs;
             insert into public.comfyui_backends (name, worker, answers, max_in_flight, foreign_prompts)
               values ('b', 'w', true, 1, 0);
             insert into public.comfyui_lora_copies (lora_id, backend)
               select id, 'b' from public.comfyui_lora_models where filename = 'a.safetensors';
             insert into public.comfyui_idempotency_keys (user_id, method, path, key, fingerprint, status, body)
               values ('{alice}', 'POST', '/', 'key', '{digest}', 202, '{{}}');
             insert into public.comfyui_inputs
               (id, user_id, filename, content_type, size_bytes, sha256, width, height, comfyui_path, blob_key,
                 deleted_at) values
               (gen_random_uuid(), '{alice}', 'a.png', 'image/png', 1, '{digest}', 1, 1, 'user-{alice}/a.png',
                 'user-{alice}/inputs/a', null),
               (gen_random_uuid(), '{alice}', 'b.png', 'image/png', 1, '{digest}', 1, 1, 'user-{alice}/b.png',
                 'user-{alice}/inputs/b', now());
             insert into public.comfyui_api_tokens (id, user_id, name, token_sha256, scopes)
               values (gen_random_uuid(), '{alice}', 'a', '{digest}', array['runs:read']);
             insert into public.comfyui_external_identities (issuer, subject, user_id, email, origin)
               values ('https://idp.example', 'alice', '{alice}', 'alice@example.com', 'email');
             insert into public.comfyui_audit_events (action) values ('sign_in.refused')"
        ))
        .await
        .unwrap();
    people
}

async fn asked(admin: &Client, people: &People, asker: &str, sql: &str) -> Outcome {
    attempted(admin, people, asker, sql)
        .await
        .unwrap_or_else(|error| panic!("{asker}: {sql}: {error}"))
}

/// What came of a statement, or why it failed for another reason than a missing right.
async fn attempted(
    admin: &Client,
    people: &People,
    asker: &str,
    sql: &str,
) -> Result<Outcome, String> {
    let (role, sub) = match asker {
        "owner" => ("authenticated", Some(&people.alice)),
        "other person" => ("authenticated", Some(&people.bob)),
        "server for owner" => ("atelier_writer", Some(&people.alice)),
        "server for other person" => ("atelier_writer", Some(&people.bob)),
        "anonymous" => ("anon", None),
        "worker" => ("service_role", None),
        other => panic!("who is {other}?"),
    };
    let claims = sub.map_or_else(String::new, |actor| {
        format!(r#"{{"sub":"{}"}}"#, actor.user_id())
    });
    admin
        .batch_execute(&format!(
            "savepoint cell; select set_config('role', '{role}', true), set_config('request.jwt.claims', '{claims}', true)"
        ))
        .await
        .unwrap();
    let outcome = match admin.execute(sql, &[]).await {
        Ok(rows) => Ok(Rows(rows)),
        Err(error) if error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE) => Ok(No),
        Err(error) => Err(format!("{error:?}")),
    };
    admin
        .batch_execute("rollback to savepoint cell")
        .await
        .unwrap();
    outcome
}

/// Everything that is not as expected, of one table or of all; runs in the transaction that is open.
async fn mismatches(admin: &Client, people: &People, only: Option<&str>) -> Vec<String> {
    let tables = admin
        .query(
            "select relname::text, relrowsecurity, relforcerowsecurity or relname = '__diesel_schema_migrations',
               case when relname = 'comfyui_users' then 'id'
                 when exists (select from pg_attribute where attrelid = pg_class.oid and attname = 'user_id'
                   and not attisdropped) then 'user_id' end
             from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')",
            &[],
        )
        .await
        .unwrap();
    let mut found = Vec::new();
    for table in &tables {
        let name: String = table.get(0);
        if only.is_some_and(|only| only != name) {
            continue;
        }
        let Some(expected) = EXPECTED.iter().find(|expected| expected.table == name) else {
            found.push(format!(
                "nothing is expected of table {name}: say it in EXPECTED"
            ));
            continue;
        };
        if !(table.get::<_, bool>(1) && table.get::<_, bool>(2)) {
            found.push(format!(
                "row-level security is not on and forced for {name}"
            ));
        }
        found.extend(cells(admin, people, expected).await);
        found.extend(table_wide_rights(admin, &name).await);
        if let Some(owner) = table.get::<_, Option<String>>(3) {
            found.extend(forgeries(admin, people, expected, &owner).await);
        }
    }
    found.extend(
        EXPECTED
            .iter()
            .filter(|expected| {
                !tables
                    .iter()
                    .any(|table| table.get::<_, String>(0) == expected.table)
            })
            .map(|expected| format!("there is no table {}", expected.table)),
    );
    found
}

/// Nobody writes a row of somebody else's, or makes one of theirs somebody else's. The worker does not either, but that
/// is its code's to see to.
async fn forgeries(
    admin: &Client,
    people: &People,
    expected: &Expected,
    owner: &str,
) -> Vec<String> {
    let table = expected.table;
    let mut found = Vec::new();
    let (insert, outcomes) = &expected.insert;
    if !insert.contains(owner) {
        found.push(format!("{table}: the insert does not name the owner"));
    }
    for (asker, outcome) in ASKERS.iter().zip(outcomes) {
        if asker.contains("other person") && *outcome != No {
            found.push(format!("{asker} is expected to forge rows of {table}"));
        }
    }
    for asker in ASKERS.into_iter().filter(|asker| *asker != "worker") {
        for to in [&people.alice, &people.bob] {
            let sql = format!("update public.{table} set {owner} = '{}'", to.user_id());
            let keeps = asker.ends_with("owner") && to == &people.alice;
            let outcome = attempted(admin, people, asker, &sql).await;
            if !keeps && !matches!(outcome, Ok(No | Rows(0))) {
                found.push(format!("{asker}: {sql}: {outcome:?}, not refused"));
            }
        }
    }
    found
}

/// Rights that no policy bounds.
async fn table_wide_rights(admin: &Client, table: &str) -> Vec<String> {
    let sql = format!(
        "select format('%s may %s {table}', role, privilege)
         from unnest(array['anon', 'authenticated', 'atelier_writer', 'service_role', 'atelier_app']) as role,
           unnest(array['truncate', 'references', 'trigger']) as privilege
         where has_table_privilege(role, 'public.{table}', privilege)"
    );
    let rows = admin.query(&sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn cells(admin: &Client, people: &People, expected: &Expected) -> Vec<String> {
    let table = expected.table;
    let mut found = Vec::new();
    for (place, asker) in ASKERS.into_iter().enumerate() {
        let alice = people.alice.user_id().to_string();
        let insert = expected
            .insert
            .0
            .replace("{alice}", &alice)
            .replace("{id}", &atelier_testkit::random_id().to_string());
        for (sql, outcomes) in [
            (format!("select 1 from public.{table}"), expected.select),
            (insert, expected.insert.1),
            (expected.update.0.to_owned(), expected.update.1),
            (format!("delete from public.{table}"), expected.delete),
        ] {
            let outcome = attempted(admin, people, asker, &sql).await;
            let wanted = outcomes[place];
            if outcome.as_ref() != Ok(&wanted) {
                found.push(format!("{asker}: {sql}: {outcome:?}, not {wanted:?}"));
            }
        }
    }
    found
}

async fn the_matrix_holds(kind: Kind) {
    let database = Database::new(kind).await;
    let people = seed(&database).await;
    let admin = database.admin().await;
    admin.batch_execute("begin").await.unwrap();

    let found = mismatches(&admin, &people, None).await;

    assert!(found.is_empty(), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_holds_on_a_bare_server() {
    the_matrix_holds(Kind::Bare).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_holds_on_supabase_with_its_older_default_grants() {
    the_matrix_holds(Kind::Supabase).await;
}

/// Every right of a role of ours, taken back one at a time, and rights that nobody should have.
async fn other_rights(admin: &Client) -> Vec<(String, String)> {
    let granted = admin
        .query(
            "select distinct table_name::text,
               format('revoke %s on public.%I from %I', privilege_type, table_name, grantee)
             from (
               select grantee, table_name, privilege_type from information_schema.role_table_grants
                 where table_schema = 'public'
               union all
               select grantee, table_name, privilege_type from information_schema.role_column_grants
                 where table_schema = 'public'
             ) as rights
             where grantee in ('anon', 'authenticated', 'atelier_writer', 'service_role')",
            &[],
        )
        .await
        .unwrap();
    assert!(granted.len() > 50, "{}", granted.len());
    let mut rights: Vec<_> = granted.iter().map(|row| (row.get(0), row.get(1))).collect();
    for expected in &EXPECTED {
        let table = expected.table;
        let too_much = |command: &str, bound: &str| {
            format!(
                "grant {command} on public.{table} to authenticated;
                 create policy too_much on public.{table} for {command} to authenticated {bound} (true)"
            )
        };
        for sql in [
            format!("grant select on public.{table} to anon"),
            too_much("insert", "with check"),
            too_much("delete", "using"),
            format!("grant truncate on public.{table} to service_role"),
        ] {
            rights.push((table.to_owned(), sql));
        }
    }
    rights
}

/// The matrix is worth something only if it notices: without any one policy or grant, with a right too many, with RLS
/// off or not forced, with a table too many.
#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_notices_every_change_of_a_right() {
    let database = Database::new(Kind::Bare).await;
    let people = seed(&database).await;
    let admin = database.admin().await;
    let mut harm = vec![
        (
            "comfyui_new".to_owned(),
            "create table public.comfyui_new (id uuid primary key)".to_owned(),
        ),
        (
            "comfyui_workflow_runs".to_owned(),
            "grant update (status) on public.comfyui_workflow_runs to authenticated;
             create policy too_much on public.comfyui_workflow_runs for update to authenticated using (true)"
                .to_owned(),
        ),
    ];
    let policies = admin
        .query(
            "select policyname::text, tablename::text from pg_policies",
            &[],
        )
        .await
        .unwrap();
    assert!(policies.len() >= 17, "{}", policies.len());
    for policy in &policies {
        let (policy, table): (String, String) = (policy.get(0), policy.get(1));
        let sql = format!("drop policy {policy} on public.{table}");
        harm.push((table, sql));
    }
    for expected in &EXPECTED {
        let table = expected.table;
        let mut alter = |what| {
            let sql = format!("alter table public.{table} {what} row level security");
            harm.push((table.to_owned(), sql));
        };
        alter("disable");
        // The one table that no migration of ours makes.
        if table != "__diesel_schema_migrations" {
            alter("no force");
        }
    }
    harm.extend(other_rights(&admin).await);
    for (table, harm) in harm {
        admin
            .batch_execute(&format!("begin; {harm}"))
            .await
            .unwrap();
        let found = mismatches(&admin, &people, Some(&table)).await;
        admin.batch_execute("rollback").await.unwrap();

        assert!(!found.is_empty(), "not noticed: {harm}");
    }
}

/// What somebody could try with an access token and Supabase's Data API, and what the server itself must not do.
#[tokio::test(flavor = "multi_thread")]
async fn forged_writes_are_refused() {
    for kind in [Kind::Bare, Kind::Supabase] {
        let database = Database::new(kind).await;
        let people = seed(&database).await;
        let admin = database.admin().await;
        let (alice, bob) = (people.alice.user_id(), people.bob.user_id());
        admin.batch_execute("begin").await.unwrap();
        for (asker, sql) in [
            ("owner", "update public.comfyui_workflow_runs set status = 'completed'".to_owned()),
            ("owner", "update public.comfyui_workflow_runs set graph = '{}'".to_owned()),
            ("owner", "update public.comfyui_workflow_runs set cancel_requested_at = now()".to_owned()),
            ("owner", "select claim_token from public.comfyui_workflow_runs".to_owned()),
            ("owner", "update public.comfyui_run_outputs set blob_key = 'user-x/secret'".to_owned()),
            ("owner", "update public.comfyui_lora_models set status = 'ready'".to_owned()),
            ("owner", "update public.comfyui_lora_models set sha256 = repeat('0', 64)".to_owned()),
            ("owner", "update public.comfyui_lora_models set comfyui_path = 'x'".to_owned()),
            ("owner", "update public.comfyui_lora_models set blob_key = 'x'".to_owned()),
            ("owner", "update public.comfyui_workflows set revision = 7".to_owned()),
            ("owner", format!("update public.comfyui_workflows set user_id = '{bob}'")),
            ("owner", "update public.comfyui_users set pending_runs = 0".to_owned()),
            ("owner", "select pending_runs from public.comfyui_users".to_owned()),
            ("owner", "select token_sha256 from public.comfyui_api_tokens".to_owned()),
            ("other person", "select token_sha256 from public.comfyui_api_tokens".to_owned()),
            ("server for owner", "select token_sha256 from public.comfyui_api_tokens".to_owned()),
            ("anonymous", "select token_sha256 from public.comfyui_api_tokens".to_owned()),
            ("owner", "select from public.comfyui_api_tokens where token_sha256 = repeat('a', 64)".to_owned()),
            (
                "server for owner",
                "insert into public.comfyui_api_tokens (id, user_id, name, token_sha256, scopes, last_used_at)
                 select gen_random_uuid(), auth.uid(), 'a', repeat('b', 64), array['runs:read'], now()".to_owned(),
            ),
            (
                "worker",
                "insert into public.comfyui_audit_events (at, action) values (now() - interval '1 day', 'a')".to_owned(),
            ),
            ("worker", "truncate public.comfyui_audit_events".to_owned()),
            ("owner", "select trace_parent from public.comfyui_workflow_runs".to_owned()),
            ("server for owner", "update public.comfyui_inputs set sha256 = repeat('b', 64)".to_owned()),
            ("server for owner", "update public.comfyui_inputs set blob_key = 'x'".to_owned()),
            ("owner", "select atelier.take_lora_path(null, null, null)".to_owned()),
            (
                "owner",
                "select * from atelier.claim_run(gen_random_uuid(), 'w', 'b', '1 hour', 1, '0', null)".to_owned(),
            ),
            (
                "owner",
                "select atelier.finish_run(gen_random_uuid(), gen_random_uuid(), 'completed', null, '[]')".to_owned(),
            ),
            ("owner", "select * from atelier.earlier_request('POST', '/', 'key', '', '1 day')".to_owned()),
            ("owner", "select atelier.lock_own_queue()".to_owned()),
            ("owner", "select waiting_runs from public.comfyui_users".to_owned()),
            ("owner", "select lives_on from public.comfyui_workflow_runs".to_owned()),
            ("anonymous", "select * from atelier.queue_outlook(gen_random_uuid())".to_owned()),
            ("anonymous", "select * from atelier.lora_copies('{}')".to_owned()),
            ("owner", "select atelier.request_lora_copies(gen_random_uuid())".to_owned()),
            (
                "owner",
                "select * from atelier.claim_lora_transfer(gen_random_uuid(), 'w', '1 hour', 'c', 'm')".to_owned(),
            ),
            (
                "server for owner",
                "select * from atelier.claim_lora_transfer(gen_random_uuid(), 'w', '1 hour', 'c', 'm')".to_owned(),
            ),
            ("owner", "update public.comfyui_lora_models set version = 7".to_owned()),
            ("owner", "update public.comfyui_lora_models set superseded_at = null".to_owned()),
            ("server for owner", format!("update public.comfyui_lora_uploads set user_id = '{bob}'")),
            (
                "server for other person",
                format!(
                    "insert into public.comfyui_lora_transfers (lora_id, user_id)
                     values ('22222222-2222-4222-8222-222222222222', '{alice}')"
                ),
            ),
            ("server for owner", "update public.comfyui_workflow_runs set priority = 10".to_owned()),
            ("anonymous", "select auth.uid() from public.comfyui_workflows".to_owned()),
            (
                "server for owner",
                "update public.comfyui_workflow_runs set status = 'completed', completed_at = now()".to_owned(),
            ),
            (
                "server for owner",
                "update public.comfyui_workflow_runs set claim_token = gen_random_uuid()".to_owned(),
            ),
            (
                "server for owner",
                "select * from atelier.claim_run(gen_random_uuid(), 'w', 'b', '1 hour', 1, '0', null)".to_owned(),
            ),
            (
                "server for other person",
                format!(
                    "insert into public.comfyui_workflow_runs (id, user_id, graph, nodes_total)
                     values (gen_random_uuid(), '{alice}', '{{}}', 1)"
                ),
            ),
        ] {
            let outcome = asked(&admin, &people, asker, &sql).await;
            assert_eq!(outcome, No, "{asker}: {sql}");
        }
    }
}

/// The server, acting for bob, cannot even queue a run of what bob does not see.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_an_invisible_workflow_is_refused() {
    let database = Database::new(Kind::Bare).await;
    let people = seed(&database).await;
    let admin = database.admin().await;
    let workflows = admin
        .query(
            "select id::text, is_public from public.comfyui_workflows",
            &[],
        )
        .await
        .unwrap();
    admin.batch_execute("begin").await.unwrap();
    for row in workflows {
        let (workflow, is_public): (String, bool) = (row.get(0), row.get(1));
        let sql = format!(
            "insert into public.comfyui_workflow_runs (id, user_id, workflow_id, graph, nodes_total)
             values (gen_random_uuid(), '{}', '{workflow}', '{{}}', 1)",
            people.bob.user_id()
        );

        let outcome = asked(&admin, &people, "server for other person", &sql).await;

        assert_eq!(outcome, if is_public { Rows(1) } else { No });
    }
}

/// Where a run stands is told to its owner alone.
#[tokio::test(flavor = "multi_thread")]
async fn the_outlook_of_a_run_is_its_owners() {
    let database = Database::new(Kind::Bare).await;
    let people = seed(&database).await;
    let admin = database.admin().await;
    let id: String = admin
        .query_one("select id::text from public.comfyui_workflow_runs", &[])
        .await
        .unwrap()
        .get(0);
    let outlook = format!("select * from atelier.queue_outlook('{id}')");
    admin.batch_execute("begin").await.unwrap();
    for (asker, rows) in [("owner", 1), ("other person", 0), ("server for owner", 1)] {
        let outcome = asked(&admin, &people, asker, &outlook).await;
        assert_eq!(outcome, Rows(rows), "{asker}");
    }
}

/// Functions reach past policies: each is for those alone who are named.
#[tokio::test(flavor = "multi_thread")]
async fn functions_are_for_those_who_are_named() {
    for kind in [Kind::Bare, Kind::Supabase] {
        let database = Database::new(kind).await;
        let admin = database.admin().await;
        let functions = admin
            .query(
                "select proname::text, coalesce((
                   select string_agg(role, ' ' order by role)
                   from unnest(array['anon', 'authenticated', 'atelier_app', 'atelier_writer', 'service_role']) as role
                   where has_function_privilege(role, pg_proc.oid, 'execute')
                 ), ''), not prosecdef or proconfig @> array['search_path=\"\"']
                 from pg_proc where pronamespace = 'atelier'::regnamespace order by 1",
                &[],
            )
            .await
            .unwrap();
        let found: Vec<(String, String)> = functions
            .iter()
            .map(|row| (row.get(0), row.get(1)))
            .collect();
        let expected: Vec<(String, String)> = EXPECTED_FUNCTIONS
            .iter()
            .map(|(name, roles)| ((*name).to_owned(), (*roles).to_owned()))
            .collect();
        assert_eq!(found, expected, "{kind:?}");
        for row in functions {
            assert!(
                row.get::<_, bool>(2),
                "{} finds names of others",
                row.get::<_, String>(0)
            );
        }
    }
}
