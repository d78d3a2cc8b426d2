//! The pool, and the way from it to the repositories.

use std::fmt;
use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::UserId;
use atelier_domain::ports::RepoError;
use deadpool::Runtime;
use diesel::QueryResult;
use diesel::QueryableByName;
use diesel::sql_types::Bool;
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::runtime::Handle;
use uuid::Uuid;

use crate::connect::Connector;
use crate::error::of_pool;
use crate::options::{PgOpenError, PgOptions};
use crate::pool::{Connections, Pool};
use crate::previews::{PreviewHub, Wishes};
use crate::signals::Listener;
use crate::statement::Statement;
use crate::transaction::{Lease, Role};
use crate::{
    PgApiTokens, PgAuditTrail, PgConnections, PgExternalIdentities, PgInputRepo, PgLoraCopies,
    PgLoraRepo, PgLoraTransfers, PgLoraUploads, PgRunPreviews, PgRunQueue, PgRunRepo, PgRunSignals,
    PgUsageRepo, PgWorkflowRepo,
};

/// The database, as the server and the workers use it. Cheap to clone.
#[derive(Clone)]
pub struct PgStore {
    pool: Pool,
    listener: Arc<Listener>,
    wishes: Arc<Wishes>,
}

impl PgStore {
    /// Makes the pool. Nothing is connected yet, so this succeeds while the database is down; [`PgStore::check`] tells.
    ///
    /// Sockets are driven by `runtime`, which must be multi-threaded and outlive the store. It must not be one of
    /// actix-web's own runtimes: a connection driven there stands still while that worker does anything else.
    ///
    /// # Errors
    /// [`PgOpenError`] for options that can never work.
    pub fn connect(options: &PgOptions, runtime: Handle) -> Result<Self, PgOpenError> {
        if options.max_connections == 0 {
            return Err(PgOpenError::Limit("the pool needs at least one connection"));
        }
        let connector = Arc::new(Connector::new(options)?);
        let previews = Arc::<PreviewHub>::default();
        let listener = Arc::new(Listener::new(
            Arc::clone(&connector),
            Arc::clone(&previews),
            runtime.clone(),
        ));
        let wishing = runtime.clone();

        let pool = Pool::builder(Connections::new(connector, runtime))
            .max_size(options.max_connections)
            .wait_timeout(Some(options.wait_timeout))
            .create_timeout(Some(options.wait_timeout))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|_no_runtime| {
                PgOpenError::Limit("the pool needs a runtime for its timeouts")
            })?;
        let wishes = Arc::new(Wishes::new(previews, pool.clone(), wishing));
        Ok(Self {
            pool,
            listener,
            wishes,
        })
    }

    /// Everybody's workflows.
    pub fn workflows(&self) -> PgWorkflowRepo {
        PgWorkflowRepo::new(self.clone())
    }

    /// Runs, from their owners' side.
    pub fn runs(&self) -> PgRunRepo {
        PgRunRepo::new(self.clone())
    }

    /// Runs, from the workers' side.
    pub fn queue(&self) -> PgRunQueue {
        PgRunQueue::new(self.clone())
    }

    /// Everybody's LoRAs.
    pub fn loras(&self) -> PgLoraRepo {
        PgLoraRepo::new(self.clone())
    }

    /// The transfers of LoRAs, from their owners' side and the workers'.
    pub fn transfers(&self) -> PgLoraTransfers {
        PgLoraTransfers::new(self.clone())
    }

    /// Uploads of LoRAs in pieces.
    pub fn uploads(&self) -> PgLoraUploads {
        PgLoraUploads::new(self.clone())
    }

    /// Where LoRAs are on backends' disks.
    pub fn copies(&self) -> PgLoraCopies {
        PgLoraCopies::new(self.clone())
    }

    /// Everybody's input files.
    pub fn inputs(&self) -> PgInputRepo {
        PgInputRepo::new(self.clone())
    }

    /// What people take up.
    pub fn usage(&self) -> PgUsageRepo {
        PgUsageRepo::new(self.clone())
    }

    /// Personal tokens.
    pub fn api_tokens(&self) -> PgApiTokens {
        PgApiTokens::new(self.clone())
    }

    /// Whom the identities of other providers stand for.
    pub fn external_identities(&self) -> PgExternalIdentities {
        PgExternalIdentities::new(self.clone())
    }

    /// The trail of what matters to security.
    pub fn audit_trail(&self) -> PgAuditTrail {
        PgAuditTrail::new(self.clone())
    }

    /// How the pool is doing.
    pub fn connections(&self) -> PgConnections {
        self.pool.status().into()
    }

    /// Signals about runs, over one connection for the whole store.
    pub fn signals(&self) -> PgRunSignals {
        PgRunSignals::new(Arc::clone(&self.listener))
    }

    /// Previews of runs, over that same connection.
    pub fn previews(&self) -> PgRunPreviews {
        PgRunPreviews::new(self.clone())
    }

    /// Makes sure that the database answers, is migrated, and lets this login become the roles that it needs.
    ///
    /// # Errors
    /// [`RepoError::Unavailable`] if it does not answer, [`RepoError::Backend`] saying what is missing otherwise.
    pub async fn check(&self) -> Result<(), RepoError> {
        let nobody = Actor::new(UserId::new(Uuid::nil()));
        for role in [Role::Person(&nobody), Role::Writer(&nobody), Role::Service] {
            // To become the role is all that there is to see, except as a worker.
            let sql = match role {
                Role::Service => MIGRATED,
                Role::Person(_) | Role::Writer(_) => "select true as migrated",
            };
            let Migrated { migrated } = self
                .transact(role, |mut connection| {
                    async move { Statement::new(sql).get_result(&mut connection).await }.boxed()
                })
                .await?;
            if !migrated {
                return Err(RepoError::Backend(
                    "the database lacks Atelier's tables; run `atelier migrate` with its owner's address".into(),
                ));
            }
        }
        Ok(())
    }

    /// Runs `work` in a transaction under `role`; see [`Lease::transact`].
    pub(crate) async fn transact<T, F>(&self, role: Role<'_>, work: F) -> Result<T, RepoError>
    where
        F: for<'c> FnOnce(&'c AsyncPgConnection) -> BoxFuture<'c, QueryResult<T>> + Send,
        T: Send,
    {
        transact(&self.pool, role, work).await
    }

    /// Runs one statement in a transaction under `role`; see [`Lease::transact_one`].
    pub(crate) async fn transact_one<T, F>(
        &self,
        role: Role<'_>,
        statement: Statement,
        run: F,
    ) -> Result<T, RepoError>
    where
        F: for<'c> FnOnce(&'c AsyncPgConnection, Statement) -> BoxFuture<'c, QueryResult<T>> + Send,
        T: Send,
    {
        lease(&self.pool)
            .await?
            .transact_one(role, statement, run)
            .await
    }

    pub(crate) fn pool(&self) -> &Pool {
        &self.pool
    }

    pub(crate) fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    /// Makes the connection that listens, unless it is there.
    pub(crate) fn listen(&self) {
        self.listener.start();
    }
}

/// Runs `work` in a transaction under `role`; see [`Lease::transact`].
pub(crate) async fn transact<T, F>(pool: &Pool, role: Role<'_>, work: F) -> Result<T, RepoError>
where
    F: for<'c> FnOnce(&'c AsyncPgConnection) -> BoxFuture<'c, QueryResult<T>> + Send,
    T: Send,
{
    lease(pool).await?.transact(role, work).await
}

async fn lease(pool: &Pool) -> Result<Lease, RepoError> {
    let connection = pool
        .get()
        .await
        .map_err(|error| of_pool(error, pool.status().max_size))?;
    Ok(Lease::new(connection))
}

/// Names the state of the pool, never the address.
impl fmt::Debug for PgStore {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PgStore")
            .field("pool", &self.pool.status())
            .finish_non_exhaustive()
    }
}

/// A worker without the schema `atelier` would be refused its functions' names, so the schema is asked for first.
const MIGRATED: &str = "\
    select to_regclass('public.comfyui_installation') is not null \
      and to_regnamespace('atelier') is not null as migrated";

#[derive(QueryableByName)]
struct Migrated {
    #[diesel(sql_type = Bool)]
    migrated: bool,
}
