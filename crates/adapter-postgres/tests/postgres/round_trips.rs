//! How often a request waits for the database, seen from a network where waiting takes long.

use std::path::{Path, PathBuf};
use std::time::Duration;

use atelier_domain::page::PageRequest;
use atelier_domain::ports::{EnqueueTerms, RunRepo, WorkflowRepo};
use atelier_domain::run::RunFilter;
use atelier_domain::workflow::WorkflowFilter;
use atelier_postgres::{PgOptions, PgStore};
use atelier_testkit::build::{
    a_claim, a_new_run, a_request_under, a_workflow, an_actor, an_answer, terms,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::Instant;

use crate::support::{Database, Kind, io};

/// What a round trip takes on this network: much more than any statement here.
const ROUND_TRIP: Duration = Duration::from_millis(120);

/// Stands between the store and the database: answers are late, and keep their order.
async fn slow_network(folder: &Path, database: PathBuf) {
    let listener = UnixListener::bind(folder.join(".s.PGSQL.5432")).unwrap();
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let server = UnixStream::connect(&database).await.unwrap();
        let (mut from_client, mut to_client) = client.into_split();
        let (mut from_server, mut to_server) = server.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_server).await });
        let (answers, mut late) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut buffer = vec![0; 65_536];
            while let Ok(length @ 1..) = from_server.read(&mut buffer).await {
                let due = Instant::now() + ROUND_TRIP;
                if answers.send((due, buffer[..length].to_vec())).is_err() {
                    return;
                }
            }
        });
        tokio::spawn(async move {
            while let Some((due, answer)) = late.recv().await {
                tokio::time::sleep_until(due).await;
                if to_client.write_all(&answer).await.is_err() {
                    return;
                }
            }
        });
    }
}

/// The best of several: what the machine is busy with besides costs time, never saves any.
async fn round_trips(mut call: impl AsyncFnMut()) -> u32 {
    let mut fewest = u32::MAX;
    for _ in 0..4 {
        let begun = Instant::now();
        call().await;
        let whole = begun.elapsed().as_millis() / ROUND_TRIP.as_millis();
        fewest = fewest.min(u32::try_from(whole).unwrap());
    }
    fewest
}

#[tokio::test(flavor = "multi_thread")]
async fn a_method_takes_two_round_trips_and_the_hottest_take_one() {
    let database = Database::new(Kind::Bare).await;
    let folder = tempfile::tempdir().unwrap();
    let socket = database.socket();
    let path = folder.path().to_owned();
    io().spawn(async move { slow_network(&path, socket).await });
    let address = folder.path().to_str().unwrap().replace('/', "%2F");
    let options = PgOptions {
        max_connections: 1,
        wait_timeout: Duration::from_secs(20),
        ..PgOptions::new(format!(
            "postgres://atelier_app@{address}/{}",
            database.name
        ))
    };
    let alice = an_actor();
    let direct = database.store();
    let workflow = direct
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    let store = PgStore::connect(&options, io()).unwrap();
    let (workflows, runs, queue) = (store.workflows(), store.runs(), store.queue());

    let get = round_trips(async || {
        workflows.get(&alice, workflow.id).await.unwrap().unwrap();
    });
    assert_eq!(get.await, 1, "get");
    let list = round_trips(async || {
        let page = workflows.list(&alice, WorkflowFilter::default(), PageRequest::default());
        page.await.unwrap();
    });
    assert_eq!(list.await, 1, "list");
    let create = round_trips(async || {
        workflows.create(&alice, a_workflow()).await.unwrap();
    });
    assert_eq!(create.await, 1, "create");
    let enqueue = round_trips(async || {
        let new = a_new_run(workflow.id);
        runs.enqueue(&alice, new, terms()).await.unwrap();
    });
    assert_eq!(enqueue.await, 2, "enqueue");
    let enqueue_once = round_trips(async || {
        let key = atelier_testkit::random_id().to_string();
        let terms = EnqueueTerms {
            idempotency: Some((a_request_under(&key, "{}"), an_answer("{}"))),
            ..terms()
        };
        let new = a_new_run(workflow.id);
        runs.enqueue(&alice, new, terms).await.unwrap();
    });
    assert_eq!(enqueue_once.await, 2, "enqueue once");
    let get_run = round_trips(async || {
        let page = runs.list(&alice, RunFilter::default(), PageRequest::default());
        let page = page.await.unwrap();
        runs.get(&alice, page.items[0].id).await.unwrap().unwrap();
    });
    assert_eq!(get_run.await, 4, "list and get");
    let claim = round_trips(async || {
        let claimed = atelier_testkit::claim(&queue, a_claim("backend")).await;
        claimed.unwrap();
    });
    assert_eq!(claim.await, 2, "claim");
}
