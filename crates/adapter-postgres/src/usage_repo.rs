//! What people take up.

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ports::{RepoError, UsageRepo};
use atelier_domain::usage::Usage;
use diesel::QueryableByName;
use diesel::sql_types::BigInt;
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;

use crate::run_rows::large_natural;
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`UsageRepo`].
#[derive(Clone, Debug)]
pub struct PgUsageRepo {
    store: PgStore,
}

const USAGE: &str = "select * from atelier.usage()";

#[derive(QueryableByName)]
struct UsageRow {
    #[diesel(sql_type = BigInt)]
    lora_bytes: i64,
    #[diesel(sql_type = BigInt)]
    input_bytes: i64,
    #[diesel(sql_type = BigInt)]
    output_bytes: i64,
    #[diesel(sql_type = BigInt)]
    pending_runs: i64,
    #[diesel(sql_type = BigInt)]
    running_runs: i64,
}

impl From<UsageRow> for Usage {
    fn from(row: UsageRow) -> Self {
        Self {
            lora_bytes: large_natural(row.lora_bytes),
            input_bytes: large_natural(row.input_bytes),
            output_bytes: large_natural(row.output_bytes),
            pending_runs: large_natural(row.pending_runs),
            running_runs: large_natural(row.running_runs),
        }
    }
}

impl PgUsageRepo {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }
}

#[async_trait]
impl UsageRepo for PgUsageRepo {
    async fn of(&self, actor: &Actor) -> Result<Usage, RepoError> {
        let row: UsageRow = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move { Statement::new(USAGE).get_result(&mut connection).await }.boxed()
            })
            .await?;
        Ok(row.into())
    }
}
