//! Input files.

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::{InputId, UserId};
use atelier_domain::input::{Input, InputName};
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{InputRepo, RepoError};
use chrono::{DateTime, Utc};
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{Array, BigInt, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;
use uuid::Uuid;

use crate::input_rows::{InputRow, input_columns, inputs};
use crate::page::{before, rows_to_fetch};
use crate::run_rows::large_integer;
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`InputRepo`].
#[derive(Clone, Debug)]
pub struct PgInputRepo {
    store: PgStore,
}

/// Gives the one that is there if there is one; its update changes nothing, but without it that row would not be
/// returned, and a look for it beforehand would miss one that is being stored just then.
const ADD: &str = concat!(
    "insert into public.comfyui_inputs as input \
       (id, user_id, filename, content_type, size_bytes, sha256, width, height, comfyui_path, blob_key, created_at) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
     on conflict (user_id, filename, sha256) where deleted_at is null do update set deleted_at = null \
     returning ",
    input_columns!()
);

const GET: &str = concat!(
    "select ",
    input_columns!(),
    " from public.comfyui_inputs as input where input.id = $1 and input.deleted_at is null"
);

const LIST: &str = concat!(
    "select ",
    input_columns!(),
    " from public.comfyui_inputs as input \
     where input.user_id = $1 and input.deleted_at is null and (input.created_at, input.id) < ($2, $3) \
     order by input.created_at desc, input.id desc limit $4"
);

/// A picture may be meant by its name and by its path.
const FIND: &str = concat!(
    "select distinct on (input.id) ",
    input_columns!(),
    " from ( \
       select newest.* from unnest($2) as wanted (name) \
       cross join lateral (select * from public.comfyui_inputs as own \
         where own.user_id = $1 and own.deleted_at is null and own.filename = wanted.name \
         order by own.created_at desc, own.id desc limit 1) as newest \
       union all \
       select newest.* from unnest($3) as wanted (path) \
       cross join lateral (select * from public.comfyui_inputs as own \
         where own.user_id = $1 and own.deleted_at is null and own.comfyui_path = wanted.path \
         order by own.created_at desc, own.id desc limit 1) as newest \
     ) as input"
);

const DELETE: &str = "\
    update public.comfyui_inputs set deleted_at = $2 where id = $1 and deleted_at is null";

const LOAD: &str = concat!(
    "select ",
    input_columns!(),
    " from public.comfyui_inputs as input where input.user_id = $1 and input.id = any ($2)"
);

/// A picture is needed by its owner's runs alone; each sort of them that is not over has an index.
const CLEANABLE: &str = concat!(
    "select ",
    input_columns!(),
    " from public.comfyui_inputs as input where input.deleted_at is not null and not exists ( \
       select from public.comfyui_workflow_runs as run \
       where run.user_id = input.user_id and run.status = 'running' and input.id = any (run.input_ids) \
     ) and not exists ( \
       select from public.comfyui_workflow_runs as run \
       where run.user_id = input.user_id and run.status = 'pending' and input.id = any (run.input_ids) \
     ) order by input.deleted_at, input.id limit $1"
);

const FORGET: &str = "delete from public.comfyui_inputs where id = $1 and deleted_at is not null";

impl PgInputRepo {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }

    async fn rows(&self, role: Role<'_>, statement: Statement) -> Result<Vec<InputRow>, RepoError> {
        self.store
            .transact(role, |mut connection| {
                async move { statement.load(&mut connection).await }.boxed()
            })
            .await
    }

    async fn execute(&self, role: Role<'_>, statement: Statement) -> Result<usize, RepoError> {
        self.store
            .transact(role, |mut connection| {
                async move { statement.execute(&mut connection).await }.boxed()
            })
            .await
    }
}

#[async_trait]
impl InputRepo for PgInputRepo {
    async fn add(&self, actor: &Actor, input: Input) -> Result<Input, RepoError> {
        let statement = Statement::new(ADD)
            .bind::<SqlUuid, _>(input.id.as_uuid())
            .bind::<SqlUuid, _>(input.user_id.as_uuid())
            .bind::<Text, _>(input.filename.as_str().to_owned())
            .bind::<Text, _>(input.format.content_type())
            .bind::<BigInt, _>(large_integer(input.size_bytes))
            .bind::<Text, _>(input.sha256.to_string())
            .bind::<BigInt, _>(i64::from(input.width))
            .bind::<BigInt, _>(i64::from(input.height))
            .bind::<Text, _>(input.comfyui_path.as_str().to_owned())
            .bind::<Text, _>(input.blob_key.to_string())
            .bind::<Timestamptz, _>(input.created_at);
        let row: InputRow = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move { statement.get_result(&mut connection).await }.boxed()
            })
            .await?;
        row.try_into()
    }

    async fn get(&self, actor: &Actor, id: InputId) -> Result<Option<Input>, RepoError> {
        let statement = Statement::new(GET).bind::<SqlUuid, _>(id.as_uuid());
        let row: Option<InputRow> = self
            .store
            .transact(Role::Person(actor), |mut connection| {
                async move { statement.get_result(&mut connection).await.optional() }.boxed()
            })
            .await?;
        row.map(Input::try_from).transpose()
    }

    async fn list(&self, actor: &Actor, page: PageRequest) -> Result<Page<Input>, RepoError> {
        let (created_at, id) = before(&page);
        let statement = Statement::new(LIST)
            .bind::<SqlUuid, _>(actor.user_id().as_uuid())
            .bind::<Timestamptz, _>(created_at)
            .bind::<SqlUuid, _>(id)
            .bind::<BigInt, _>(rows_to_fetch(&page));
        let found = inputs(self.rows(Role::Person(actor), statement).await?)?;
        Ok(Page::from_rows(found, page.limit, Input::cursor))
    }

    async fn find(&self, actor: &Actor, names: Vec<InputName>) -> Result<Vec<Input>, RepoError> {
        let (mut filenames, mut paths) = (Vec::new(), Vec::new());
        for name in names {
            match name {
                InputName::Latest(filename) => filenames.push(filename.as_str().to_owned()),
                InputName::At(path) => paths.push(path.as_str().to_owned()),
            }
        }
        let statement = Statement::new(FIND)
            .bind::<SqlUuid, _>(actor.user_id().as_uuid())
            .bind::<Array<Text>, _>(filenames)
            .bind::<Array<Text>, _>(paths);
        inputs(self.rows(Role::Person(actor), statement).await?)
    }

    async fn delete(
        &self,
        actor: &Actor,
        id: InputId,
        at: DateTime<Utc>,
    ) -> Result<bool, RepoError> {
        let statement = Statement::new(DELETE)
            .bind::<SqlUuid, _>(id.as_uuid())
            .bind::<Timestamptz, _>(at);
        Ok(self.execute(Role::Writer(actor), statement).await? > 0)
    }

    async fn load_many(&self, owner: UserId, ids: Vec<InputId>) -> Result<Vec<Input>, RepoError> {
        let ids: Vec<Uuid> = ids.into_iter().map(InputId::as_uuid).collect();
        let statement = Statement::new(LOAD)
            .bind::<SqlUuid, _>(owner.as_uuid())
            .bind::<Array<SqlUuid>, _>(ids);
        inputs(self.rows(Role::Service, statement).await?)
    }

    async fn cleanable(&self, limit: u16) -> Result<Vec<Input>, RepoError> {
        let statement = Statement::new(CLEANABLE).bind::<BigInt, _>(i64::from(limit));
        inputs(self.rows(Role::Service, statement).await?)
    }

    async fn forget(&self, id: InputId) -> Result<(), RepoError> {
        let statement = Statement::new(FORGET).bind::<SqlUuid, _>(id.as_uuid());
        self.execute(Role::Service, statement).await?;
        Ok(())
    }
}
