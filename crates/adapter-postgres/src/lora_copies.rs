//! Where LoRAs are on backends' disks, and where they are asked for.

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraPath, LoraStatus};
use atelier_domain::ports::{CopyState, LoraCopies, LoraCopy, RepoError, WriteOutcome};
use diesel::QueryableByName;
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{Array, BigInt, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;
use uuid::Uuid;

use crate::error::inconsistent;
use crate::lora_rows::{lora_columns, loras};
use crate::run_rows::storable;
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`LoraCopies`].
#[derive(Clone, Debug)]
pub struct PgLoraCopies {
    store: PgStore,
}

const STATES: &str = "select backend, lora_id, state from atelier.lora_copies($1)";

const STATUS: &str = "\
    select lora.status from public.comfyui_lora_models as lora \
    where lora.id = $1 and lora.user_id = $2 and lora.deleted_at is null";

const REQUEST: &str = "select atelier.request_lora_copies($1)";

/// Those that came to an end, one way or the other, are forgotten on the way.
const TAKE: &str = concat!(
    "with over as ( \
       delete from public.comfyui_lora_prefetches as wanted \
       where wanted.backend = $1 and wanted.taken_at is not null and ( \
         wanted.taken_at < clock_timestamp() - interval '10 minutes' \
         or exists (select from public.comfyui_lora_copies as copy \
           where copy.lora_id = wanted.lora_id and copy.backend = wanted.backend)) \
     ), taken as ( \
       update public.comfyui_lora_prefetches set taken_at = clock_timestamp() where (lora_id, backend) in ( \
         select wanted.lora_id, wanted.backend from public.comfyui_lora_prefetches as wanted \
         where wanted.backend = $1 and wanted.taken_at is null \
         order by wanted.requested_at limit $2 for update skip locked \
       ) returning lora_id, requested_at \
     ) \
     select ",
    lora_columns!(),
    " from taken join public.comfyui_lora_models as lora on lora.id = taken.lora_id \
     where lora.deleted_at is null and lora.status = 'ready' order by taken.requested_at"
);

/// In one order, as several workers may serve a backend.
const GONE: &str = "\
    delete from public.comfyui_lora_copies where (lora_id, backend) in ( \
      select copy.lora_id, copy.backend from public.comfyui_lora_copies as copy \
      join public.comfyui_lora_models as lora on lora.id = copy.lora_id \
      where copy.backend = $1 and lora.comfyui_path = any ($2) order by copy.lora_id for update of copy)";

#[derive(QueryableByName)]
struct CopyRow {
    #[diesel(sql_type = Text)]
    backend: String,
    #[diesel(sql_type = SqlUuid)]
    lora_id: Uuid,
    #[diesel(sql_type = Text)]
    state: String,
}

impl CopyRow {
    fn into_copies(rows: Vec<Self>) -> Result<Vec<LoraCopy>, RepoError> {
        rows.into_iter()
            .map(|row| {
                let state = CopyState::ALL
                    .into_iter()
                    .find(|state| state.as_str() == row.state)
                    .ok_or_else(|| inconsistent("comfyui_lora_copies", "state", row.lora_id))?;
                Ok(LoraCopy {
                    backend: row.backend,
                    lora_id: row.lora_id.into(),
                    state,
                })
            })
            .collect()
    }
}

#[derive(QueryableByName)]
struct StatusRow {
    #[diesel(sql_type = Text)]
    status: String,
}

fn states_of(loras: Vec<LoraId>) -> Statement {
    let ids: Vec<Uuid> = loras.into_iter().map(LoraId::as_uuid).collect();
    Statement::new(STATES).bind::<Array<SqlUuid>, _>(ids)
}

impl PgLoraCopies {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }
}

#[async_trait]
impl LoraCopies for PgLoraCopies {
    async fn states(&self, actor: &Actor, loras: Vec<LoraId>) -> Result<Vec<LoraCopy>, RepoError> {
        let statement = states_of(loras);
        let rows = self
            .store
            .transact(Role::Person(actor), |mut connection| {
                async move { statement.load(&mut connection).await }.boxed()
            })
            .await?;
        CopyRow::into_copies(rows)
    }

    async fn request(
        &self,
        actor: &Actor,
        lora: LoraId,
    ) -> Result<WriteOutcome<Vec<LoraCopy>>, RepoError> {
        let status = Statement::new(STATUS)
            .bind::<SqlUuid, _>(lora.as_uuid())
            .bind::<SqlUuid, _>(actor.user_id().as_uuid());
        let request = Statement::new(REQUEST).bind::<SqlUuid, _>(lora.as_uuid());
        let states = states_of(vec![lora]);
        let found = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move {
                    let row: Option<StatusRow> =
                        status.get_result(&mut connection).await.optional()?;
                    let Some(StatusRow { status }) = row else {
                        return Ok(None);
                    };
                    let is_ready = status == LoraStatus::Ready.as_str();
                    if is_ready {
                        request.execute(&mut connection).await?;
                    }
                    let copies: Vec<CopyRow> = states.load(&mut connection).await?;
                    Ok(Some((is_ready, copies)))
                }
                .boxed()
            })
            .await?;
        let Some((is_ready, copies)) = found else {
            return Ok(WriteOutcome::NotFound);
        };
        let copies = CopyRow::into_copies(copies)?;
        Ok(if is_ready {
            WriteOutcome::Done(copies)
        } else {
            WriteOutcome::Stale(copies)
        })
    }

    async fn take_requests(&self, backend: &str, limit: u16) -> Result<Vec<Lora>, RepoError> {
        let statement = Statement::new(TAKE)
            .bind::<Text, _>(storable(backend))
            .bind::<BigInt, _>(i64::from(limit));
        let rows = self
            .store
            .transact(Role::Service, |mut connection| {
                async move { statement.load(&mut connection).await }.boxed()
            })
            .await?;
        loras(rows)
    }

    async fn tell_gone(&self, backend: &str, paths: Vec<LoraPath>) -> Result<(), RepoError> {
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let statement = Statement::new(GONE)
            .bind::<Text, _>(storable(backend))
            .bind::<Array<Text>, _>(paths);
        self.store
            .transact(Role::Service, |mut connection| {
                async move { statement.execute(&mut connection).await }.boxed()
            })
            .await?;
        Ok(())
    }
}
