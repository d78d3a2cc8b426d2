//! What the conformance suite cannot reach: the connection behind the signals.

use atelier_domain::ports::{RunSignals, RunTopic, SignalStream, WorkflowRepo};
use atelier_testkit::build::{a_new_run, a_workflow, an_actor};
use atelier_testkit::{PATIENCE, enqueue, wait_until};
use futures_util::StreamExt;

use crate::support::{Database, Kind, scalar};

const LISTENERS: &str = "select count(*) from pg_stat_activity
    where usename = 'atelier_app' and datname = current_database() and query like 'LISTEN%'";

async fn woken(what: &str, stream: &mut SignalStream) {
    let item = tokio::time::timeout(PATIENCE, stream.next()).await;
    assert_eq!(item, Ok(Some(())), "{what} wakes nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_wakes_everybody_and_is_replaced() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    let store = database.store();
    let mut streams = [
        store.signals().watch(RunTopic::Queue),
        store
            .signals()
            .watch(RunTopic::Run(atelier_testkit::random_id().into())),
    ];
    for stream in &mut streams {
        woken("the beginning", stream).await;
    }
    assert_eq!(
        scalar(&admin, LISTENERS).await.as_deref(),
        Some("1"),
        "one for all"
    );

    admin
        .batch_execute(
            "select pg_terminate_backend(pid) from pg_stat_activity
             where usename = 'atelier_app' and datname = current_database() and query like 'LISTEN%'",
        )
        .await
        .unwrap();

    for stream in &mut streams {
        woken("what may have been missed", stream).await;
    }
    let alice = an_actor();
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    enqueue(&store.runs(), &alice, a_new_run(workflow.id)).await;
    woken("a run after that", &mut streams[0]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_and_the_connection_end_with_the_store() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    let store = database.store();
    let mut stream = store.signals().watch(RunTopic::Queue);
    woken("the beginning", &mut stream).await;

    drop(store);

    let end = tokio::time::timeout(PATIENCE, stream.collect::<Vec<()>>()).await;
    assert!(end.is_ok(), "the stream goes on without its store");
    wait_until("the end of the connection", PATIENCE, async || {
        scalar(&admin, LISTENERS).await.as_deref() == Some("0")
    })
    .await;
}
