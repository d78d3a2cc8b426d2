//! Previews of runs, by LISTEN and NOTIFY: nothing is stored.
//!
//! Whoever watches a run says so every few seconds on the channel `atelier_preview_wishes`; whoever works on it sends the
//! pictures on `atelier_previews`, in pieces, because a payload must be shorter than 8000 bytes. Within one process both
//! meet without the database.

mod hub;
mod pieces;

use std::fmt;
use std::sync::{Arc, Once};

use async_trait::async_trait;
use atelier_domain::ids::RunId;
use atelier_domain::ports::{PreviewImage, PreviewStream, RepoError, RunPreviews};
use diesel::sql_types::{Array, Text};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::pool::Pool;
use crate::statement::Statement;
use crate::store::{PgStore, transact};
use crate::transaction::Role;

pub(crate) use hub::PreviewHub;
use hub::WISH_EVERY;

/// Where pieces of pictures come in.
pub(crate) const PICTURES: &str = "atelier_previews";
/// Where the wishes of those who watch come in.
pub(crate) const WISHES: &str = "atelier_preview_wishes";

const NOTIFY: &str = "select pg_notify($1, payload) from unnest($2) as payload";

/// Implements [`RunPreviews`].
#[derive(Clone)]
pub struct PgRunPreviews {
    store: PgStore,
}

impl PgRunPreviews {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }
}

impl fmt::Debug for PgRunPreviews {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PgRunPreviews")
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl RunPreviews for PgRunPreviews {
    fn watch(&self, run: RunId) -> PreviewStream {
        self.store.listen();
        self.store.wishes().start();
        let pictures = self.store.wishes().hub.watch(run);
        Box::pin(futures_util::stream::unfold(
            pictures,
            |mut pictures| async {
                loop {
                    pictures.changed().await.ok()?;
                    let latest = pictures.borrow_and_update().clone();
                    if let Some(image) = latest {
                        return Some((image, pictures));
                    }
                }
            },
        ))
    }

    fn is_wanted(&self, run: RunId) -> bool {
        // Until the connection listens, the wishes of other processes are not heard.
        self.store.listen();
        self.store.wishes().hub.is_wanted(run)
    }

    async fn publish(&self, run: RunId, image: PreviewImage) -> Result<(), RepoError> {
        if image.bytes.len() > PreviewImage::MAX_BYTES {
            return Ok(());
        }
        let hub = &self.store.wishes().hub;
        hub.show(run, &image);
        if !hub.is_wanted_elsewhere(run) {
            return Ok(());
        }
        let pieces = hub.pieces(run, &image);
        notify(self.store.pool(), PICTURES, pieces).await
    }
}

/// What tells other processes which runs are watched in this one.
pub(crate) struct Wishes {
    pub(crate) hub: Arc<PreviewHub>,
    pool: Pool,
    runtime: Handle,
    started: Once,
    /// Dropped with the store.
    alive: watch::Sender<()>,
}

impl Wishes {
    pub(crate) fn new(hub: Arc<PreviewHub>, pool: Pool, runtime: Handle) -> Self {
        Self {
            hub,
            pool,
            runtime,
            started: Once::new(),
            alive: watch::Sender::new(()),
        }
    }

    fn start(&self) {
        self.started.call_once(|| {
            let (hub, pool) = (Arc::clone(&self.hub), self.pool.clone());
            let mut alive = self.alive.subscribe();
            self.runtime.spawn(async move {
                tokio::select! {
                    _store_is_gone = alive.changed() => {}
                    () = wish_for_ever(&pool, &hub) => {}
                }
            });
        });
    }
}

async fn wish_for_ever(pool: &Pool, hub: &PreviewHub) {
    loop {
        let wishes = hub.due_wishes();
        if !wishes.is_empty()
            && let Err(error) = notify(pool, WISHES, wishes).await
        {
            tracing::debug!(%error, "cannot say which previews are watched");
        }
        tokio::select! {
            () = hub.new_wish.notified() => {}
            () = tokio::time::sleep(WISH_EVERY), if hub.is_watched() => {}
        }
    }
}

/// All in one transaction, so that listeners hear all of them in this order with nothing of this sender's between.
async fn notify(
    pool: &Pool,
    channel: &'static str,
    payloads: Vec<String>,
) -> Result<(), RepoError> {
    let statement = Statement::new(NOTIFY)
        .bind::<Text, _>(channel)
        .bind::<Array<Text>, _>(payloads);
    transact(pool, Role::Service, |mut connection| {
        async move { statement.execute(&mut connection).await.map(drop) }.boxed()
    })
    .await
}
