//! Lists read what they show, however large the table is.

use atelier_domain::actor::Actor;
use atelier_domain::page::{Cursor, PageLimit, PageRequest};
use atelier_domain::ports::WorkflowRepo;
use atelier_domain::workflow::{WorkflowFilter, WorkflowScope};
use atelier_testkit::{PATIENCE, wait_until};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{Database, Kind, scalar};

const OWNER: Uuid = Uuid::from_u128(1);

/// 20 000 rows of ten people, one in twenty public.
async fn fill(admin: &Client) {
    admin
        .batch_execute(
            "insert into public.comfyui_users (id)
               select lpad(to_hex(n), 32, '0')::uuid from generate_series(1, 10) as n;
             insert into public.comfyui_workflows (id, user_id, name, workflow_json, is_public, created_at)
               select gen_random_uuid(), lpad(to_hex(n % 10 + 1), 32, '0')::uuid, 'workflow ' || n, '{}',
                 n % 21 = 0, timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second'
               from generate_series(1, 20000) as n;
             analyze public.comfyui_workflows",
        )
        .await
        .unwrap();
}

/// Scans of the whole table, and rows that were fetched, so far. A connection tells when it ends.
async fn counters(admin: &Client) -> (i64, i64) {
    let row = admin
        .query_one(
            "select seq_scan, seq_tup_read + coalesce(idx_tup_fetch, 0) from pg_stat_user_tables
             where relname = 'comfyui_workflows'",
            &[],
        )
        .await
        .unwrap();
    (row.get(0), row.get(1))
}

#[tokio::test(flavor = "multi_thread")]
async fn every_page_of_every_scope_comes_from_an_index() {
    const CALLS: i64 = 8;
    const LIMIT: u16 = 50;
    let database = Database::new(Kind::Bare).await;
    fill(&database.admin().await).await;
    let watcher = database.admin().await;
    let owner = Actor::new(OWNER.into());
    let deep = Cursor {
        created_at: "2026-01-01T04:00:00Z".parse().unwrap(),
        id: Uuid::max(),
    };
    for scope in [
        WorkflowScope::All,
        WorkflowScope::Own,
        WorkflowScope::Public,
    ] {
        for after in [None, Some(deep)] {
            let (scans, rows) = counters(&watcher).await;
            // Enough calls for the plan that is kept, too: Postgres makes five of its own first.
            let store = database.store_of(1);
            for _ in 0..CALLS {
                let filter = WorkflowFilter {
                    scope,
                    ..WorkflowFilter::default()
                };
                let page = PageRequest {
                    limit: PageLimit::new(LIMIT).unwrap(),
                    after,
                };
                let page = store.workflows().list(&owner, filter, page).await.unwrap();
                assert!(page.items.len() >= 20, "{scope:?}: {}", page.items.len());
                assert!(
                    page.items
                        .iter()
                        .all(|item| item.is_public || item.user_id == owner.user_id())
                );
            }
            drop(store);
            wait_until("the end of the connection", PATIENCE, async || {
                let connections = "select count(*) from pg_stat_activity
                    where usename = 'atelier_app' and datname = current_database()";
                scalar(&watcher, connections).await.as_deref() == Some("0")
            })
            .await;

            let (scans_after, rows_after) = counters(&watcher).await;
            assert_eq!(
                scans_after, scans,
                "{scope:?} after {after:?} read the whole table"
            );
            assert!(rows_after > rows, "nothing was counted");
            let each = (rows_after - rows) / CALLS;
            // Two branches, each one row longer than the page; of those that are public some are the owner's own.
            assert!(
                each <= 3 * i64::from(LIMIT),
                "{scope:?} after {after:?} read {each} rows"
            );
        }
    }
}
