//! The connections that wait to be used, and what each of them knows.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};

use deadpool::managed::{Manager, Metrics, RecycleError, RecycleResult};
use diesel::ConnectionError;
use diesel::QueryResult;
use diesel_async::pooled_connection::{PoolError, PoolableConnection as _};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use tokio::runtime::Handle;

use crate::connect::Connector;
use crate::transaction::act_as;

pub(crate) type Pool = deadpool::managed::Pool<Connections>;

/// What holds in every transaction of a connection, whoever it is for.
///
/// The page cost tells the planner that an index on a disk without heads is cheap; at the default it prefers to read a
/// whole table once a policy hides from it how few rows match.
const SETTINGS: &str = "\
    set statement_timeout = '15s'; set lock_timeout = '5s'; set idle_in_transaction_session_timeout = '30s'; \
    set random_page_cost = 1.1";

/// Makes connections for the pool.
pub(crate) struct Connections {
    connector: Arc<Connector>,
    /// Drives the sockets.
    runtime: Handle,
}

impl Connections {
    pub(crate) fn new(connector: Arc<Connector>, runtime: Handle) -> Self {
        Self { connector, runtime }
    }
}

impl fmt::Debug for Connections {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Connections")
            .finish_non_exhaustive()
    }
}

impl Manager for Connections {
    type Type = Connection;
    type Error = PoolError;

    async fn create(&self) -> Result<Connection, PoolError> {
        let connector = Arc::clone(&self.connector);
        let opening = self.runtime.spawn(async move {
            let connection = connector.connect().await;
            Connection::new(connection.map_err(PoolError::ConnectionError)?)
                .await
                .map_err(PoolError::QueryError)
        });
        opening.await.map_err(|stopped| {
            PoolError::ConnectionError(ConnectionError::BadConnection(stopped.to_string()))
        })?
    }

    /// Whether the socket is closed and the transaction over is known without asking the database.
    async fn recycle(
        &self,
        connection: &mut Connection,
        _metrics: &Metrics,
    ) -> RecycleResult<PoolError> {
        if connection.is_broken() {
            return Err(RecycleError::Message("the connection is broken".into()));
        }
        Ok(())
    }
}

/// A connection, and which statements it has prepared.
pub(crate) struct Connection {
    inner: AsyncPgConnection,
    prepared: Mutex<Vec<&'static str>>,
}

impl Connection {
    /// Sets what every transaction needs, and prepares what each of them begins with.
    async fn new(mut inner: AsyncPgConnection) -> QueryResult<Self> {
        inner.batch_execute(SETTINGS).await?;
        // Outside of a transaction it sets nothing.
        act_as("none", "").execute(&mut inner).await?;
        Ok(Self {
            inner,
            prepared: Mutex::default(),
        })
    }

    /// Whether [`Connection::keep_prepared`] was told of this text, by its address: texts are constants.
    pub(crate) fn has_prepared(&self, sql: &'static str) -> bool {
        let prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
        prepared.iter().any(|other| std::ptr::eq(*other, sql))
    }

    /// Notes that a statement was prepared here; diesel keeps all of a connection's for good.
    pub(crate) fn keep_prepared(&self, sql: &'static str) {
        if !self.has_prepared(sql) {
            let mut prepared = self.prepared.lock().unwrap_or_else(PoisonError::into_inner);
            prepared.push(sql);
        }
    }
}

impl Deref for Connection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        &self.inner
    }
}

impl DerefMut for Connection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.inner
    }
}
