//! Who may do what, table by table: the matrix is generated from the catalogue, so a new table fails it until somebody
//! has said here what is expected of it.

use atelier_domain::actor::Actor;
use atelier_testkit::build::an_actor;
use tokio_postgres::Client;

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
               values ('{alice}', 'POST', '/', 'key', '{digest}', 202, '{{}}')"
        ))
        .await
        .unwrap();
    people
}

async fn asked(admin: &Client, people: &People, asker: &str, sql: &str) -> Outcome {
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
        Ok(rows) => Rows(rows),
        Err(error) => {
            let code = error.code().map(|code| code.code().to_owned());
            assert_eq!(code.as_deref(), Some("42501"), "{asker}: {sql}: {error:?}");
            No
        }
    };
    admin
        .batch_execute("rollback to savepoint cell")
        .await
        .unwrap();
    outcome
}

/// Everything that is not as expected; runs in the transaction that is open.
async fn mismatches(admin: &Client, people: &People) -> Vec<String> {
    let tables = admin
        .query(
            "select relname::text, relrowsecurity, relforcerowsecurity or relname = '__diesel_schema_migrations'
             from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p', 'v', 'm', 'f')",
            &[],
        )
        .await
        .unwrap();
    let mut found = Vec::new();
    for table in &tables {
        let name: String = table.get(0);
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
            let outcome = asked(admin, people, asker, &sql).await;
            let wanted = outcomes[place];
            if outcome != wanted {
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

    let found = mismatches(&admin, &people).await;

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

/// The matrix is worth something only if it notices: without any one policy, with RLS off, with a table too many.
#[tokio::test(flavor = "multi_thread")]
async fn the_matrix_notices_every_missing_policy() {
    let database = Database::new(Kind::Bare).await;
    let people = seed(&database).await;
    let admin = database.admin().await;
    let mut harm = vec![
        "create table public.comfyui_new (id uuid primary key)".to_owned(),
        "grant update (status) on public.comfyui_workflow_runs to authenticated;
         create policy too_much on public.comfyui_workflow_runs for update to authenticated using (true)"
            .to_owned(),
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
        harm.push(format!("drop policy {policy} on public.{table}"));
    }
    for expected in &EXPECTED {
        harm.push(format!(
            "alter table public.{} disable row level security",
            expected.table
        ));
    }
    for harm in harm {
        admin
            .batch_execute(&format!("begin; {harm}"))
            .await
            .unwrap();
        let found = mismatches(&admin, &people).await;
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
