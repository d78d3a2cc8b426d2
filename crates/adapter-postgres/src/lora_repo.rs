//! LoRAs.

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{
    Lora, LoraFailure, LoraFilename, LoraFilter, LoraStatus, NewLora, ReceivedLora,
};
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{LoraRepo, RepoError, WriteOutcome};
use diesel::prelude::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper,
};
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;
use uuid::Uuid;

use crate::lora_rows::{LoraRow, stored_bytes};
use crate::lora_statements::{
    DUE_FOR_CLEANING, GIVE_WAY, LIST, ready_statement, reserve_statement,
};
use crate::page::{before, rows_to_fetch};
use crate::run_rows::storable;
use crate::schema::comfyui_lora_models::dsl as lora;
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`LoraRepo`].
#[derive(Clone, Debug)]
pub struct PgLoraRepo {
    store: PgStore,
}

impl PgLoraRepo {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }
}

#[async_trait]
impl LoraRepo for PgLoraRepo {
    async fn reserve(&self, actor: &Actor, new: NewLora) -> Result<Lora, RepoError> {
        let owner = actor.user_id();
        let give_way = Statement::new(GIVE_WAY)
            .bind::<SqlUuid, _>(owner.as_uuid())
            .bind::<Text, _>(new.filename.as_str().to_owned());
        let reserve = reserve_statement(actor, new)?;
        let row: LoraRow = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move {
                    give_way.execute(&mut connection).await?;
                    reserve.get_result(&mut connection).await
                }
                .boxed()
            })
            .await?;
        row.try_into()
    }

    async fn record_progress(
        &self,
        actor: &Actor,
        id: LoraId,
        bytes_done: u64,
    ) -> Result<WriteOutcome<()>, RepoError> {
        let owner = actor.user_id().as_uuid();
        let changed = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move {
                    diesel::update(lora::comfyui_lora_models)
                        .filter(reserved(id, owner))
                        .set((
                            lora::bytes_done.eq(stored_bytes(bytes_done)),
                            lora::touched_at.eq(diesel::dsl::now),
                        ))
                        .execute(&mut connection)
                        .await
                }
                .boxed()
            })
            .await?;
        Ok(if changed > 0 {
            WriteOutcome::Done(())
        } else {
            WriteOutcome::NotFound
        })
    }

    async fn mark_ready(
        &self,
        actor: &Actor,
        id: LoraId,
        received: ReceivedLora,
    ) -> Result<WriteOutcome<Lora>, RepoError> {
        let owner = actor.user_id();
        let row = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move {
                    let filename: Option<String> = lora::comfyui_lora_models
                        .filter(reserved(id, owner.as_uuid()))
                        .select(lora::filename)
                        .first(&mut connection)
                        .await
                        .optional()?;
                    let Some(filename) = filename else {
                        return Ok(None);
                    };
                    ready_statement(owner, id, &filename, received)?
                        .get_result::<LoraRow>(&mut connection)
                        .await
                        .optional()
                }
                .boxed()
            })
            .await?;
        outcome(row)
    }

    async fn mark_failed(
        &self,
        actor: &Actor,
        id: LoraId,
        failure: LoraFailure,
    ) -> Result<WriteOutcome<Lora>, RepoError> {
        let owner = actor.user_id().as_uuid();
        let row = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move {
                    diesel::update(lora::comfyui_lora_models)
                        .filter(reserved(id, owner))
                        .set((
                            lora::status.eq(LoraStatus::Failed.as_str()),
                            lora::error_code.eq(storable(&failure.code)),
                            lora::error_message.eq(storable(&failure.message)),
                            lora::touched_at.eq(diesel::dsl::now),
                        ))
                        .returning(LoraRow::as_returning())
                        .get_result(&mut connection)
                        .await
                        .optional()
                }
                .boxed()
            })
            .await?;
        outcome(row)
    }

    async fn get(&self, actor: &Actor, id: LoraId) -> Result<Option<Lora>, RepoError> {
        let row: Option<LoraRow> = self
            .store
            .transact(Role::Person(actor), |mut connection| {
                async move {
                    lora::comfyui_lora_models
                        .find(id.as_uuid())
                        .select(LoraRow::as_select())
                        .first(&mut connection)
                        .await
                        .optional()
                }
                .boxed()
            })
            .await?;
        row.map(Lora::try_from).transpose()
    }

    async fn find_ready(
        &self,
        actor: &Actor,
        filenames: Vec<LoraFilename>,
    ) -> Result<Vec<Lora>, RepoError> {
        let owner = actor.user_id().as_uuid();
        let names: Vec<String> = filenames
            .iter()
            .map(|name| name.as_str().to_owned())
            .collect();
        let rows: Vec<LoraRow> = self
            .store
            .transact(Role::Person(actor), |mut connection| {
                async move {
                    lora::comfyui_lora_models
                        .filter(
                            lora::user_id
                                .eq(owner)
                                .and(lora::deleted_at.is_null())
                                .and(lora::status.eq(LoraStatus::Ready.as_str()))
                                .and(lora::filename.eq_any(names)),
                        )
                        .select(LoraRow::as_select())
                        .load(&mut connection)
                        .await
                }
                .boxed()
            })
            .await?;
        rows.into_iter().map(Lora::try_from).collect()
    }

    async fn list(
        &self,
        actor: &Actor,
        filter: LoraFilter,
        page: PageRequest,
    ) -> Result<Page<Lora>, RepoError> {
        let (created_at, id) = before(&page);
        let statement = Statement::new(LIST)
            .bind::<SqlUuid, _>(actor.user_id().as_uuid())
            .bind::<Timestamptz, _>(created_at)
            .bind::<SqlUuid, _>(id)
            .bind::<BigInt, _>(rows_to_fetch(&page))
            .bind::<Nullable<Text>, _>(filter.status.map(LoraStatus::as_str))
            .bind::<Nullable<Text>, _>(filter.tag.as_deref().map(storable))
            .bind::<Nullable<Text>, _>(filter.text.as_deref().map(storable));
        let rows: Vec<LoraRow> = self
            .store
            .transact(Role::Person(actor), |mut connection| {
                async move { statement.load(&mut connection).await }.boxed()
            })
            .await?;
        let loras = rows
            .into_iter()
            .map(Lora::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Page::from_rows(loras, page.limit, Lora::cursor))
    }

    async fn delete(&self, actor: &Actor, id: LoraId) -> Result<WriteOutcome<()>, RepoError> {
        let owner = actor.user_id().as_uuid();
        let deleted = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move {
                    diesel::update(lora::comfyui_lora_models)
                        .filter(
                            lora::id
                                .eq(id.as_uuid())
                                .and(lora::user_id.eq(owner))
                                .and(lora::deleted_at.is_null()),
                        )
                        .set(lora::deleted_at.eq(diesel::dsl::now))
                        .execute(&mut connection)
                        .await
                }
                .boxed()
            })
            .await?;
        Ok(if deleted > 0 {
            WriteOutcome::Done(())
        } else {
            WriteOutcome::NotFound
        })
    }

    async fn load_for_sync(&self, ids: Vec<LoraId>) -> Result<Vec<Lora>, RepoError> {
        let ids: Vec<Uuid> = ids.into_iter().map(LoraId::as_uuid).collect();
        let rows: Vec<LoraRow> = self
            .store
            .transact(Role::Service, |mut connection| {
                async move {
                    lora::comfyui_lora_models
                        .filter(lora::id.eq_any(ids))
                        .select(LoraRow::as_select())
                        .load(&mut connection)
                        .await
                }
                .boxed()
            })
            .await?;
        rows.into_iter().map(Lora::try_from).collect()
    }

    async fn due_for_cleaning(&self, limit: u16) -> Result<Vec<Lora>, RepoError> {
        let statement = Statement::new(DUE_FOR_CLEANING).bind::<BigInt, _>(i64::from(limit));
        let rows: Vec<LoraRow> = self
            .store
            .transact(Role::Service, |mut connection| {
                async move { statement.load(&mut connection).await }.boxed()
            })
            .await?;
        rows.into_iter().map(Lora::try_from).collect()
    }

    async fn forget(&self, id: LoraId) -> Result<(), RepoError> {
        self.store
            .transact(Role::Service, |mut connection| {
                async move {
                    diesel::delete(
                        lora::comfyui_lora_models.filter(
                            lora::id
                                .eq(id.as_uuid())
                                .and(lora::deleted_at.is_not_null()),
                        ),
                    )
                    .execute(&mut connection)
                    .await?;
                    diesel::update(lora::comfyui_lora_models)
                        .filter(
                            lora::id
                                .eq(id.as_uuid())
                                .and(lora::status.eq(LoraStatus::Failed.as_str())),
                        )
                        .set(lora::blob_key.eq(None::<String>))
                        .execute(&mut connection)
                        .await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }
}

/// A row whose bytes are on their way.
#[diesel::dsl::auto_type]
fn reserved(id: LoraId, owner: Uuid) -> _ {
    let id: Uuid = id.as_uuid();
    let uploading: &'static str = LoraStatus::Uploading.as_str();
    let importing: &'static str = LoraStatus::Importing.as_str();
    lora::id
        .eq(id)
        .and(lora::user_id.eq(owner))
        .and(lora::deleted_at.is_null())
        .and(lora::status.eq(uploading).or(lora::status.eq(importing)))
}

fn outcome(row: Option<LoraRow>) -> Result<WriteOutcome<Lora>, RepoError> {
    Ok(match row.map(Lora::try_from).transpose()? {
        Some(lora) => WriteOutcome::Done(lora),
        None => WriteOutcome::NotFound,
    })
}
