//! No way of ending a request leaves a role, a person or a transaction behind in a connection.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::WorkflowId;
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{Conflict, RepoError, WorkflowRepo, WriteOutcome};
use atelier_domain::workflow::{NewWorkflow, WorkflowFilter};
use atelier_postgres::{PgOptions, PgStore};
use atelier_testkit::build::{a_workflow, an_actor};
use atelier_testkit::{PATIENCE, wait_until};
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

use crate::support::{Database, Kind, client, io, scalar};

/// Polls a future so often at the most, then drops it; says whether it came to its end.
async fn cut_off<F: Future>(polls: usize, future: F) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(context).map(|_output| true)
    })
    .await
}

/// The server's processes that serve the application in this database, those that listen left out.
async fn backends(admin: &Client, condition: &str) -> String {
    let sql = format!(
        "select coalesce(string_agg(pid::text, ',' order by pid), '') from pg_stat_activity
         where usename = 'atelier_app' and datname = current_database() and {condition}"
    );
    scalar(admin, &sql).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_dropped_at_any_point_leaves_nothing_behind() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    let store = database.store_of(1);
    let (alice, bob) = (an_actor(), an_actor());
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();

    let mut ended = 0;
    for polls in 0..40 {
        let new = NewWorkflow {
            id: WorkflowId::new(atelier_testkit::random_id()),
            ..a_workflow()
        };
        let (read, write) = (store.workflows(), store.workflows());
        let read = cut_off(polls, read.get(&alice, workflow.id)).await;
        let seen = store.workflows().get(&bob, workflow.id).await.unwrap();
        assert_eq!(
            seen, None,
            "bob reads with alice's claims after {polls} polls"
        );
        let write = cut_off(polls, write.create(&alice, new)).await;
        let seen = store.workflows().get(&bob, workflow.id).await.unwrap();
        assert_eq!(
            seen, None,
            "bob reads with alice's claims after {polls} polls"
        );
        ended += usize::from(read) + usize::from(write);
        if read && write {
            break;
        }
    }

    assert!(
        ended > 0,
        "no request came to its end: the polls did not reach every point"
    );
    wait_until("an end of every transaction", PATIENCE, async || {
        backends(&admin, "state <> 'idle'").await.is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_request_closes_its_connection_and_a_finished_one_keeps_it() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    let store = database.store_of(1);
    let alice = an_actor();
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    let first = backends(&admin, "true").await;
    store.workflows().get(&alice, workflow.id).await.unwrap();
    assert_eq!(backends(&admin, "true").await, first, "a finished request");

    // One poll sends everything; the answer is never read.
    let repo = store.workflows();
    assert!(!cut_off(1, repo.get(&alice, workflow.id)).await);

    wait_until("the end of the connection", PATIENCE, async || {
        backends(&admin, "true").await.is_empty()
    })
    .await;
    store.workflows().get(&alice, workflow.id).await.unwrap();
    assert_ne!(backends(&admin, "true").await, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_statement_rolls_back_and_keeps_the_connection() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    let store = database.store_of(1);
    let (alice, bob) = (an_actor(), an_actor());
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    let first = backends(&admin, "true").await;

    let twice = NewWorkflow {
        id: workflow.id,
        ..a_workflow()
    };
    let outcome = store.workflows().create(&alice, twice).await;

    assert!(
        matches!(outcome, Err(RepoError::Conflict(Conflict::Id))),
        "{outcome:?}"
    );
    assert_eq!(backends(&admin, "state = 'idle'").await, first);
    assert_eq!(
        store.workflows().get(&bob, workflow.id).await.unwrap(),
        None
    );
}

/// On a new connection nothing is prepared: the first statement is sent later than the batch that sets the role.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_statement_of_a_connection_has_its_role() {
    let database = Database::new(Kind::Bare).await;
    let alice = an_actor();
    for _ in 0..5 {
        let store = database.store_of(1);
        let workflow = store
            .workflows()
            .create(&alice, a_workflow())
            .await
            .unwrap();
        let store = database.store_of(1);
        assert!(
            store
                .workflows()
                .get(&alice, workflow.id)
                .await
                .unwrap()
                .is_some()
        );
        let store = database.store_of(1);
        let claim = atelier_testkit::build::a_claim("backend");
        let claimed = atelier_domain::ports::RunQueue::claim(&store.queue(), claim).await;
        assert_eq!(
            claimed.unwrap(),
            atelier_domain::ports::ClaimOutcome::Nothing
        );
    }
}

/// Takes free locks, all within one poll of the task: after 128 of them tokio lets none through in the same poll.
async fn keep_busy(locks: usize) {
    let lock = tokio::sync::Mutex::new(());
    tokio::task::yield_now().await;
    for _ in 0..locks {
        drop(lock.lock().await);
    }
}

/// A message that gave way to a later one would run without its role, or outside of its transaction.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_task_sends_in_order() {
    let database = Database::new(Kind::Bare).await;
    let alice = an_actor();
    let workflow = database
        .store()
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();

    for locks in 100..128 {
        let store = database.store_of(1);
        // The first one prepares, the second one is in one round trip.
        for time in ["first", "second"] {
            keep_busy(locks).await;
            let seen = store.workflows().get(&alice, workflow.id).await;
            assert!(
                matches!(seen, Ok(Some(_))),
                "{time} after {locks} locks: {seen:?}"
            );
        }
    }
}

/// What was sent together with a refused statement ends the transaction: nobody finds it open, and nothing of it stays.
#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_in_one_round_trip_leaves_nothing_behind() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    let store = database.store_of(1);
    let (alice, bob) = (an_actor(), an_actor());
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    let first = backends(&admin, "true").await;

    for _ in 0..3 {
        let twice = NewWorkflow {
            id: workflow.id,
            ..a_workflow()
        };
        let outcome = store.workflows().create(&bob, twice).await;
        assert!(
            matches!(outcome, Err(RepoError::Conflict(Conflict::Id))),
            "{outcome:?}"
        );
        assert_eq!(backends(&admin, "state = 'idle'").await, first);
        let seen = store.workflows().get(&bob, workflow.id).await.unwrap();
        assert_eq!(seen, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_login_role_alone_reaches_no_table() {
    for kind in [Kind::Bare, Kind::Supabase] {
        let database = Database::new(kind).await;
        let admin = database.admin().await;
        let app = client(&database.url_for("atelier_app")).await;
        let tables = admin
            .query(
                "select format('%I.%I', schemaname, tablename) from pg_tables where schemaname in ('public', 'auth')",
                &[],
            )
            .await
            .unwrap();
        assert!(tables.len() > 7);
        for table in tables {
            let table: String = table.get(0);
            let error = app
                .batch_execute(&format!("select 1 from {table}"))
                .await
                .unwrap_err();
            assert_eq!(error.code().map(SqlState::code), Some("42501"), "{table}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quotes_and_nuls_are_only_text() {
    let database = Database::new(Kind::Bare).await;
    let store = database.store();
    let alice = Actor::new(an_actor().user_id()).with_email("'; reset role; --\0");
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    for text in [
        "'",
        "\\",
        "%",
        "_",
        "\0",
        "'; drop table comfyui_workflows; --",
        "$1",
    ] {
        let filter = WorkflowFilter {
            text: Some(text.to_owned()),
            tag: None,
            ..WorkflowFilter::default()
        };
        let page = store
            .workflows()
            .list(&alice, filter, PageRequest::default())
            .await;
        assert_eq!(page.unwrap().items, [], "{text:?}");
        let filter = WorkflowFilter {
            tag: Some(text.to_owned()),
            ..WorkflowFilter::default()
        };
        let page = store
            .workflows()
            .list(&alice, filter, PageRequest::default())
            .await;
        assert_eq!(page.unwrap().items, [], "{text:?}");
    }
    assert!(
        store
            .workflows()
            .get(&alice, workflow.id)
            .await
            .unwrap()
            .is_some()
    );
}

/// A pool that is too small makes requests wait, and says so in the end.
#[tokio::test(flavor = "multi_thread")]
async fn a_busy_pool_is_unavailable_after_the_wait() {
    let database = Database::new(Kind::Bare).await;
    let options = PgOptions {
        max_connections: 1,
        wait_timeout: Duration::from_millis(300),
        ..PgOptions::new(database.url_for("atelier_app"))
    };
    let store = PgStore::connect(&options, io()).unwrap();
    let alice = an_actor();
    let workflow = store
        .workflows()
        .create(&alice, a_workflow())
        .await
        .unwrap();
    // Holds the row, so that the one connection is stuck in an update.
    let admin = database.admin().await;
    let lock = format!(
        "begin; select from public.comfyui_workflows where id = '{}' for update",
        workflow.id
    );
    admin.batch_execute(&lock).await.unwrap();
    let (repo, other) = (store.workflows(), store.workflows());
    let owner = alice.clone();
    let stuck = tokio::spawn(async move { repo.delete(&owner, workflow.id, None).await });
    let watcher = database.admin().await;
    wait_until("the delete waits", PATIENCE, async || {
        !backends(&watcher, "wait_event_type = 'Lock'")
            .await
            .is_empty()
    })
    .await;

    let outcome = other.get(&alice, workflow.id).await;

    assert!(
        matches!(outcome, Err(RepoError::Unavailable(_))),
        "{outcome:?}"
    );
    admin.batch_execute("rollback").await.unwrap();
    assert_eq!(stuck.await.unwrap().unwrap(), WriteOutcome::Done(()));
}
