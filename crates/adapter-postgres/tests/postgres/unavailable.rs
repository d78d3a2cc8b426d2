//! A database that is down, or goes down, is unavailable and nothing worse.

use std::time::{Duration, Instant};

use atelier_domain::ports::{RepoError, WorkflowRepo};
use atelier_local_postgres::Cluster;
use atelier_postgres::{PgOptions, PgStore, migrate};
use atelier_testkit::build::{a_workflow, an_actor};
use atelier_testkit::{PATIENCE, wait_until};

use crate::support::{Database, Kind, io};

#[tokio::test(flavor = "multi_thread")]
async fn a_store_is_made_while_the_database_is_down() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap().replace('/', "%2F");
    let options = PgOptions::new(format!("postgres://atelier_app:hunter2@{folder}/atelier"));
    let begun = Instant::now();

    let store = PgStore::connect(&options, io()).unwrap();

    assert!(begun.elapsed() < Duration::from_secs(1));
    let outcome = store.check().await;
    let Err(RepoError::Unavailable(source)) = outcome else {
        panic!("{outcome:?}");
    };
    let text = format!("{source} {source:?} {store:?}");
    assert!(!text.contains("hunter2"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_goes_down_is_unavailable() {
    let cluster = tokio::task::spawn_blocking(|| Cluster::throw_away().unwrap())
        .await
        .unwrap();
    migrate(&PgOptions::new(cluster.url("postgres")), None)
        .await
        .unwrap();
    let options = PgOptions::new(cluster.url_for("atelier_app", "postgres"));
    let store = PgStore::connect(&options, io()).unwrap();
    let alice = an_actor();
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();

    tokio::task::spawn_blocking(move || cluster.stop().unwrap())
        .await
        .unwrap();

    for _ in 0..3 {
        let outcome = store.workflows().get(&alice, workflow.id).await;
        assert!(
            matches!(outcome, Err(RepoError::Unavailable(_))),
            "{outcome:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_the_server_ended_are_replaced() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    let store = database.store();
    let alice = an_actor();
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    for _ in 0..5 {
        admin
            .batch_execute(
                "select pg_terminate_backend(pid) from pg_stat_activity
                 where usename = 'atelier_app' and datname = current_database()",
            )
            .await
            .unwrap();

        wait_until("a new connection", PATIENCE, async || {
            match store.workflows().get(&alice, workflow.id).await {
                Ok(found) => found.is_some(),
                Err(RepoError::Unavailable(_)) => false,
                Err(other) => panic!("{other:?}"),
            }
        })
        .await;
    }
}
