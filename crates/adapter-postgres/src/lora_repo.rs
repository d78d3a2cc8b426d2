//! LoRAs.

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::{LoraId, UserId};
use atelier_domain::lora::{
    Lora, LoraFailure, LoraFilename, LoraFilter, LoraPath, LoraSource, LoraStatus, NewLora,
    ReceivedLora,
};
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{LoraRepo, RepoError, WriteOutcome};
use diesel::prelude::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper,
};
use diesel::sql_types::{Array, BigInt, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;
use serde_json::Value;
use uuid::Uuid;

use crate::json_text::JsonText;
use crate::lora_rows::{LoraRow, first_key, own_key, stored_bytes};
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

/// What `LoraRow` reads.
macro_rules! lora_columns {
    () => {
        "id, user_id, name, filename, description, tags, status, google_drive_file_id, bytes_done, bytes_total, \
         file_size, sha256, comfyui_path, base_model, trigger_words, metadata, error_code, error_message, blob_key, \
         created_at"
    };
}

/// Bytes of an upload come without a pause, and an import records its progress; an hour without a sign is the end.
macro_rules! abandoned {
    () => {
        "(status in ('uploading', 'importing') and touched_at < now() - interval '1 hour')"
    };
}

const GIVE_WAY: &str = concat!(
    "update public.comfyui_lora_models set deleted_at = now() \
     where user_id = $1 and filename = $2 and deleted_at is null and (status = 'failed' or ",
    abandoned!(),
    ")"
);

/// Takes the plain key unless a row has it, and then one that holds the LoRA's id.
const RESERVE: &str = concat!(
    "insert into public.comfyui_lora_models \
       (id, user_id, name, filename, description, tags, status, source, google_drive_file_id, bytes_total, \
        created_at, blob_key) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
       case when exists (select from public.comfyui_lora_models as other where other.blob_key = $12) \
         then $13 else $12 end) \
     returning ",
    lora_columns!()
);

const MARK_READY: &str = concat!(
    "update public.comfyui_lora_models set \
       status = 'ready', comfyui_path = atelier.take_lora_path(user_id, $3, $4), sha256 = $4, file_size = $5, \
       bytes_done = $5, bytes_total = $5, name = $6, description = $7, tags = $8, base_model = $9, \
       trigger_words = $10, metadata = $11, touched_at = now() \
     where id = $1 and user_id = $2 and deleted_at is null and status in ('uploading', 'importing') \
     returning ",
    lora_columns!()
);

const LIST: &str = concat!(
    "select ",
    lora_columns!(),
    " from public.comfyui_lora_models \
     where user_id = $1 and deleted_at is null and (created_at, id) < ($2, $3) \
     and ($5 is null or status = $5) \
     and ($6 is null or $6 = any (tags)) \
     and ($7 is null or strpos(lower(name), lower($7)) > 0 or strpos(lower(filename), lower($7)) > 0 \
       or strpos(lower(description), lower($7)) > 0) \
     order by created_at desc, id desc limit $4"
);

/// What was abandoned becomes failed in the same statement: its object goes next, so it must not become ready.
/// A LoRA is needed by its owner's runs alone.
const DUE_FOR_CLEANING: &str = concat!(
    "with due as ( \
       select id from public.comfyui_lora_models as lora \
       where blob_key is not null and (deleted_at is not null or status = 'failed' or ",
    abandoned!(),
    ") \
       and not exists (select from public.comfyui_workflow_runs as run \
         where run.user_id = lora.user_id and run.status = 'pending' and lora.id = any (run.lora_ids)) \
       and not exists (select from public.comfyui_workflow_runs as run \
         where run.user_id = lora.user_id and run.status = 'running' and lora.id = any (run.lora_ids)) \
       order by created_at, id limit $1 for no key update skip locked \
     ) \
     update public.comfyui_lora_models as lora set \
       status = case when lora.status in ('uploading', 'importing') then 'failed' else lora.status end, \
       error_code = case when lora.status in ('uploading', 'importing') then 'abandoned' else lora.error_code end, \
       error_message = case when lora.status in ('uploading', 'importing') \
         then 'The bytes stopped coming; send the file again.' else lora.error_message end \
     from due where lora.id = due.id \
     returning ",
    "lora.id, lora.user_id, lora.name, lora.filename, lora.description, lora.tags, lora.status, \
     lora.google_drive_file_id, lora.bytes_done, lora.bytes_total, lora.file_size, lora.sha256, lora.comfyui_path, \
     lora.base_model, lora.trigger_words, lora.metadata, lora.error_code, lora.error_message, lora.blob_key, \
     lora.created_at"
);

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

fn reserve_statement(actor: &Actor, new: NewLora) -> Result<Statement, RepoError> {
    let owner = actor.user_id();
    let plain_key = first_key(owner, &new.filename)?;
    let own_key = own_key(owner, &new)?;
    let (status, source, file_id) = match new.source {
        LoraSource::Upload => (LoraStatus::Uploading, "upload", None),
        LoraSource::GoogleDrive { file_id } => {
            (LoraStatus::Importing, "google_drive", Some(file_id))
        }
    };
    Ok(Statement::new(RESERVE)
        .bind::<SqlUuid, _>(new.id.as_uuid())
        .bind::<SqlUuid, _>(owner.as_uuid())
        .bind::<Text, _>(new.name.as_str().to_owned())
        .bind::<Text, _>(new.filename.as_str().to_owned())
        .bind::<Nullable<Text>, _>(new.description.map(|text| text.as_str().to_owned()))
        .bind::<Array<Text>, _>(new.tags.into_vec())
        .bind::<Text, _>(status.as_str())
        .bind::<Text, _>(source)
        .bind::<Nullable<Text>, _>(file_id)
        .bind::<Nullable<BigInt>, _>(new.bytes_total.map(stored_bytes))
        .bind::<Timestamptz, _>(new.created_at)
        .bind::<Text, _>(plain_key.as_str().to_owned())
        .bind::<Text, _>(own_key.as_str().to_owned()))
}

fn ready_statement(
    owner: UserId,
    id: LoraId,
    filename: &str,
    received: ReceivedLora,
) -> diesel::QueryResult<Statement> {
    let filename = LoraFilename::parse(filename)
        .map_err(|error| diesel::result::Error::DeserializationError(Box::new(error)))?;
    // The last one is nobody else's: it is for contents whose versioned name is another file's first one.
    let paths = vec![
        LoraPath::first(owner, &filename).to_string(),
        LoraPath::versioned(owner, &filename, &received.sha256).to_string(),
        format!("user-{owner}/{id}.safetensors"),
    ];
    let trigger_words: Vec<String> = received
        .facts
        .trigger_words
        .iter()
        .map(|word| storable(word))
        .collect();
    Ok(Statement::new(MARK_READY)
        .bind::<SqlUuid, _>(id.as_uuid())
        .bind::<SqlUuid, _>(owner.as_uuid())
        .bind::<Array<Text>, _>(paths)
        .bind::<Text, _>(received.sha256.to_string())
        .bind::<BigInt, _>(stored_bytes(received.file_size))
        .bind::<Text, _>(received.name.as_str().to_owned())
        .bind::<Nullable<Text>, _>(received.description.map(|text| text.as_str().to_owned()))
        .bind::<Array<Text>, _>(received.tags.into_vec())
        .bind::<Nullable<Text>, _>(received.facts.base_model.as_deref().map(storable))
        .bind::<Array<Text>, _>(trigger_words)
        .bind::<Json, _>(JsonText::of(&Value::Object(received.facts.metadata))))
}
