//! Migrating: from nothing and back, twice, at once, by whom, and what belongs to somebody else.

use atelier_domain::actor::Actor;
use atelier_domain::lora::NewLora;
use atelier_domain::ports::{AppendOutcome, LoraUploads, RepoError, WorkflowRepo};
use atelier_postgres::{MIGRATIONS, MigrateError, PgLoraUploads, PgOptions, migrate};
use atelier_testkit::build::{a_new_lora, a_piece, a_workflow, an_actor};
use diesel_async::{AsyncConnection, AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::MigrationHarness;

use crate::support::{Database, Kind, scalar};

const KINDS: [Kind; 2] = [Kind::Bare, Kind::Supabase];

async fn harness(database: &Database) -> AsyncMigrationHarness<AsyncPgConnection> {
    let connection = AsyncPgConnection::establish(&database.owner_url()).await;
    AsyncMigrationHarness::new(connection.unwrap())
}

/// Everything that the migrations could have left, those of the cluster aside.
const OBJECTS: &str = "
    select coalesce(string_agg(name, ', ' order by name), '') from (
      select relname::text as name from pg_class where relnamespace in (
        select oid from pg_namespace where nspname in ('public', 'auth', 'atelier')
      )
      union all select proname::text from pg_proc where pronamespace in (
        select oid from pg_namespace where nspname in ('public', 'auth', 'atelier')
      )
      union all select nspname::text from pg_namespace where nspname in ('auth', 'atelier')
    ) as objects where name not like '\\_\\_diesel%'";

#[tokio::test(flavor = "multi_thread")]
async fn reverting_leaves_the_database_as_it_was() {
    for kind in KINDS {
        let database = Database::unmigrated(kind).await;
        let admin = database.admin().await;
        let before = scalar(&admin, OBJECTS).await;
        let mut harness = harness(&database).await;
        let applied = harness.run_pending_migrations(MIGRATIONS).unwrap().len();
        assert_ne!(scalar(&admin, OBJECTS).await, before);

        let reverted = harness.revert_all_migrations(MIGRATIONS).unwrap().len();

        assert_eq!(reverted, applied);
        assert_eq!(scalar(&admin, OBJECTS).await, before, "{kind:?}");
        harness.run_pending_migrations(MIGRATIONS).unwrap();
        drop(harness);
        database.give_everybody_accounts().await;
        let workflows = database.store().workflows();
        workflows.create(&an_actor(), a_workflow()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn many_who_migrate_at_once_do_it_once() {
    for kind in KINDS {
        let database = Database::unmigrated(kind).await;
        let options = PgOptions::new(database.owner_url());

        let reports = futures_util::future::join_all((0..4).map(|_| migrate(&options, None))).await;

        let mut applied: Vec<_> = reports
            .into_iter()
            .map(|report| report.unwrap().applied.len())
            .collect();
        applied.sort_unstable();
        assert_eq!(applied, [0, 0, 0, 8], "{kind:?}");
        database.store().check().await.unwrap();
    }
}

/// The harness needs a runtime of many threads; whoever calls may be on another.
#[tokio::test]
async fn a_runtime_of_one_thread_will_do() {
    let database = Database::unmigrated(Kind::Bare).await;

    let report = migrate(&PgOptions::new(database.owner_url()), None).await;

    assert_eq!(report.unwrap().applied.len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_password_is_sent_as_a_verifier() {
    let database = Database::new(Kind::Bare).await;
    let options = PgOptions::new(database.owner_url());

    let report = migrate(&options, Some("s3cret ' pass".to_owned()))
        .await
        .unwrap();

    assert!(report.password_set && report.applied.is_empty());
    let stored = "select rolpassword from pg_authid where rolname = 'atelier_app'";
    let stored = scalar(&database.admin().await, stored).await.unwrap();
    assert!(stored.starts_with("SCRAM-SHA-256$"), "{stored}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_migrate_is_told_what_is_missing() {
    let database = Database::unmigrated(Kind::Bare).await;
    let admin = database.admin().await;
    admin
        .batch_execute(
            "do $$ begin create role nobody_special login; exception when duplicate_object then null; end $$;
             revoke create on schema public from public",
        )
        .await
        .unwrap();

    let outcome = migrate(&PgOptions::new(database.url_for("nobody_special")), None).await;

    let Err(MigrateError::Privileges { role, lacks }) = outcome else {
        panic!("{outcome:?}");
    };
    assert_eq!(role, "nobody_special");
    for part in [
        "BYPASSRLS",
        "CREATE on the database",
        "CREATE on schema public",
    ] {
        assert!(
            lacks.iter().any(|lack| lack.contains(part)),
            "{part}: {lacks:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_is_not_migrated_is_said_to_be() {
    let database = Database::unmigrated(Kind::Bare).await;
    // The roles are the cluster's, so they are there.
    drop(Database::new(Kind::Bare).await);

    let outcome = database.store().check().await;

    let Err(RepoError::Backend(source)) = outcome else {
        panic!("{outcome:?}");
    };
    assert!(source.to_string().contains("atelier migrate"), "{source}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_ours_is_not_touched() {
    let database = Database::new(Kind::Supabase).await;
    let admin = database.admin().await;
    for (what, expected) in [
        (
            "select relowner::regrole::text from pg_class where oid = 'auth.users'::regclass",
            "supabase_auth_admin",
        ),
        (
            "select obj_description('auth.users'::regclass, 'pg_class') is null",
            "t",
        ),
        (
            "select proowner::regrole::text from pg_proc where oid = 'auth.uid()'::regprocedure",
            "supabase_auth_admin",
        ),
        (
            "select rolsuper from pg_roles where rolname = 'postgres'",
            "f",
        ),
    ] {
        assert_eq!(
            scalar(&admin, what).await.as_deref(),
            Some(expected),
            "{what}"
        );
    }
}

/// An upload in one piece, which waits for a worker.
async fn upload_whole(uploads: &PgLoraUploads, owner: &Actor) {
    let new = NewLora {
        bytes_total: Some(4),
        ..a_new_lora("a.safetensors")
    };
    let (id, at) = (new.id, new.created_at);
    let created = uploads.create(owner, new, String::new(), at).await;
    created.unwrap();
    let appended = uploads.append(owner, id, a_piece(owner, id, 0, 4), 1, at);
    let complete = AppendOutcome::Appended {
        offset: 4,
        is_complete: true,
    };
    assert_eq!(appended.await.unwrap(), complete);
}

/// Deleting an account at Supabase Auth deletes what it owned, also while runs wait.
#[tokio::test(flavor = "multi_thread")]
async fn an_account_takes_its_rows_with_it() {
    let database = Database::new(Kind::Supabase).await;
    database.give_everybody_accounts().await;
    let store = database.store();
    let (alice, bob) = (an_actor(), an_actor());
    for actor in [&alice, &bob] {
        let workflow = store.workflows().create(actor, a_workflow()).await.unwrap();
        let run = atelier_testkit::build::a_new_run(workflow.id);
        atelier_testkit::enqueue(&store.runs(), actor, run).await;
        upload_whole(&store.uploads(), actor).await;
    }
    let admin = database.admin().await;

    let delete = format!(
        "set role supabase_auth_admin; delete from auth.users where id = '{}'; reset role",
        alice.user_id()
    );
    admin.batch_execute(&delete).await.unwrap();

    for table in [
        "comfyui_users",
        "comfyui_workflows",
        "comfyui_workflow_runs",
        "comfyui_run_events",
        "comfyui_lora_models",
        "comfyui_lora_uploads",
        "comfyui_lora_upload_pieces",
        "comfyui_lora_transfers",
    ] {
        let left = scalar(&admin, &format!("select count(*) from public.{table}")).await;
        assert_eq!(left.as_deref(), Some("1"), "{table}");
    }
}

/// Where no Supabase Auth is, people need no account: they may come by Cloudflare Access.
#[tokio::test(flavor = "multi_thread")]
async fn a_bare_database_knows_no_accounts() {
    let database = Database::new(Kind::Bare).await;

    let created = database
        .store()
        .workflows()
        .create(&an_actor(), a_workflow())
        .await;

    created.unwrap();
    let admin = database.admin().await;
    let accounts = scalar(&admin, "select count(*) from auth.users").await;
    assert_eq!(accounts.as_deref(), Some("0"));
}
