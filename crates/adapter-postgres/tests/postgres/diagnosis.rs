//! What is told to whoever sets a database up.

use atelier_postgres::{PgDiagnosis, PgOptions, diagnose};

use crate::support::{Database, Kind, io, scalar};

async fn diagnosis(url: String) -> PgDiagnosis {
    diagnose(&PgOptions::new(url), &io()).await.unwrap()
}

async fn of_app(database: &Database) -> PgDiagnosis {
    diagnosis(database.url_for("atelier_app")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_migrated_has_nothing_wrong_with_it() {
    for kind in [Kind::Bare, Kind::Supabase] {
        let database = Database::new(kind).await;

        let found = of_app(&database).await;

        assert_eq!(found.login, "atelier_app");
        assert!(!found.is_superuser && !found.bypasses_policies && !found.inherits);
        assert!(
            found.keeps_session && found.version_number >= 150_000,
            "{found:?}"
        );
        for (what, names) in [
            ("cannot become", &found.cannot_become),
            ("missing tables", &found.missing_tables),
            ("open tables", &found.open_tables),
            ("missing policies", &found.missing_policies),
            ("unknown policies", &found.unknown_policies),
            ("leaking tables", &found.leaking_tables),
        ] {
            assert_eq!(names, &Vec::<String>::new(), "{what}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_table_of_the_migrations_is_looked_for() {
    let empty = Database::unmigrated(Kind::Bare).await;
    let full = Database::new(Kind::Bare).await;
    let there = "select string_agg(tablename, ',' order by tablename) from pg_tables \
                 where schemaname = 'public' and tablename like 'comfyui%'";

    let missing = diagnosis(empty.admin_url()).await.missing_tables;

    assert_eq!(
        Some(missing.join(",")),
        scalar(&full.admin().await, there).await
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_superuser_is_told_apart() {
    let database = Database::new(Kind::Bare).await;

    let found = diagnosis(database.admin_url()).await;

    assert!(found.is_superuser, "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_that_were_dropped_or_switched_off_are_named() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    admin
        .batch_execute(
            "drop policy comfyui_workflows_select on public.comfyui_workflows;
             alter table public.comfyui_lora_models disable row level security;
             alter table public.comfyui_workflow_runs no force row level security",
        )
        .await
        .unwrap();

    let found = of_app(&database).await;

    assert_eq!(
        found.missing_policies,
        ["comfyui_workflows comfyui_workflows_select"]
    );
    assert_eq!(
        found.open_tables,
        ["comfyui_lora_models", "comfyui_workflow_runs"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_shows_everything_to_everybody_is_found_by_what_it_shows() {
    let database = Database::new(Kind::Bare).await;
    let alice = atelier_testkit::build::an_actor();
    let admin = database.admin().await;
    admin
        .batch_execute(&format!(
            "insert into public.comfyui_users (id) values ('{0}') on conflict do nothing;
             insert into public.comfyui_workflows (id, user_id, name, workflow_json, is_public)
               values (gen_random_uuid(), '{0}', 'private', '{{}}', false);
             create policy of_mine on public.comfyui_workflows for select to authenticated using (true)",
            alice.user_id()
        ))
        .await
        .unwrap();

    let found = of_app(&database).await;

    assert_eq!(found.leaking_tables, ["comfyui_workflows"]);
    assert_eq!(found.unknown_policies, ["comfyui_workflows of_mine"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_that_cannot_become_a_role_is_told_which() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    admin
        .batch_execute("create role somebody_else login")
        .await
        .unwrap();

    let found = diagnosis(database.url_for("somebody_else")).await;

    assert_eq!(
        found.cannot_become,
        ["authenticated", "atelier_writer", "service_role"]
    );
}
