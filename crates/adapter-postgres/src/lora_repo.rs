//! LoRAs.

use std::collections::BTreeSet;

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{
    Lora, LoraFailure, LoraFilter, LoraPath, LoraStatus, NewLora, ReceivedLora,
};
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{
    BlobKey, BlobOwner, Conflict, LoraName, LoraRepo, PathContent, RepoError, WriteOutcome,
};
use diesel::QueryableByName;
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Uuid as SqlUuid};
use diesel_async::RunQueryDsl;
use futures_util::FutureExt;
use uuid::Uuid;

use crate::error::inconsistent;
use crate::lora_rows::{LoraRow, lora_columns, loras};
use crate::lora_statements::{
    CONTENTS_AT, DUE_FOR_CLEANING, FORGET_DELETED, FORGET_OBJECT, GET, INSTALLATION, LOAD,
    PATHS_IN_USE, SWEEP, VERSIONS, find_statement, list_statement, owners_statement, run_owner,
};
use crate::lora_writes::{NamedRow, Reservation, bind_failure, lock_filename, make_ready};
use crate::queue_rows::IdRow;
use crate::run_rows::large_integer;
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`LoraRepo`].
#[derive(Clone, Debug)]
pub struct PgLoraRepo {
    store: PgStore,
}

/// A row of the actor's whose bytes are on their way.
macro_rules! reserved {
    () => {
        "lora.id = $1 and lora.user_id = $2 and lora.deleted_at is null \
         and lora.status in ('uploading', 'importing')"
    };
}

const RECORD_PROGRESS: &str = concat!(
    "update public.comfyui_lora_models as lora set bytes_done = $3, touched_at = now(), \
       expires_at = greatest(lora.expires_at, now() + interval '1 hour') where ",
    reserved!()
);

const NAME_RESERVED: &str = concat!(
    "select lora.user_id, lora.filename from public.comfyui_lora_models as lora where ",
    reserved!()
);

const LOCK_RESERVED: &str = concat!(
    "select lora.id from public.comfyui_lora_models as lora where ",
    reserved!(),
    " for no key update"
);

const MARK_FAILED: &str = concat!(
    "update public.comfyui_lora_models as lora set status = 'failed', error_code = $3, error_message = $4, \
       touched_at = now() where ",
    reserved!(),
    " returning ",
    lora_columns!()
);

const NAME: &str = "\
    select lora.user_id, lora.filename from public.comfyui_lora_models as lora \
    where lora.id = $1 and lora.user_id = $2 and lora.deleted_at is null";

/// The filename is locked: whether this one is the latest does not change meanwhile.
const DELETE: &str = "\
    update public.comfyui_lora_models as lora set deleted_at = now() \
    where lora.user_id = $2 and lora.deleted_at is null and exists ( \
      select from public.comfyui_lora_models as asked \
      where asked.id = $1 and asked.user_id = $2 and asked.deleted_at is null \
        and (lora.id = asked.id or (lora.filename = asked.filename and asked.superseded_at is null \
          and lora.version < asked.version)))";

impl PgLoraRepo {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }

    /// Reads rows for a person or for workers.
    async fn read(&self, role: Role<'_>, statement: Statement) -> Result<Vec<Lora>, RepoError> {
        loras(self.rows(role, statement).await?)
    }

    async fn rows<T>(&self, role: Role<'_>, statement: Statement) -> Result<Vec<T>, RepoError>
    where
        T: QueryableByName<diesel::pg::Pg> + Send + 'static,
    {
        self.store
            .transact(role, |mut connection| {
                async move { statement.load(&mut connection).await }.boxed()
            })
            .await
    }
}

#[derive(QueryableByName)]
struct PathRow {
    #[diesel(sql_type = Text)]
    path: String,
}

#[derive(QueryableByName)]
struct ContentRow {
    #[diesel(sql_type = Text)]
    path: String,
    #[diesel(sql_type = Text)]
    sha256: String,
    #[diesel(sql_type = Bool)]
    is_alive: bool,
}

#[derive(QueryableByName)]
struct OwnerRow {
    #[diesel(sql_type = Text)]
    kind: String,
    #[diesel(sql_type = Nullable<Text>)]
    key: Option<String>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    id: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    person: Option<Uuid>,
}

impl OwnerRow {
    fn into_owner(self) -> Option<BlobOwner> {
        match (self.kind.as_str(), self.key, self.id, self.person) {
            ("lora", Some(key), _, _) => Some(BlobOwner::Lora(BlobKey::parse(key).ok()?)),
            ("input", Some(key), _, _) => Some(BlobOwner::Input(BlobKey::parse(key).ok()?)),
            ("upload", _, Some(id), _) => Some(BlobOwner::Upload(id.into())),
            ("run", _, Some(run), Some(person)) => Some(run_owner(person, run)),
            _ => None,
        }
    }
}

/// A statement about one LoRA of the actor's.
fn about(sql: &'static str, actor: &Actor, id: LoraId) -> Statement {
    Statement::new(sql)
        .bind::<SqlUuid, _>(id.as_uuid())
        .bind::<SqlUuid, _>(actor.user_id().as_uuid())
}

fn path_of(text: &str) -> Result<LoraPath, RepoError> {
    LoraPath::parse(text)
        .map_err(|_broken| inconsistent("comfyui_lora_paths", "comfyui_path", text))
}

#[async_trait]
impl LoraRepo for PgLoraRepo {
    async fn reserve(&self, actor: &Actor, new: NewLora) -> Result<Lora, RepoError> {
        let reservation = Reservation::new(actor, new, None);
        let row = self
            .store
            .transact(Role::Writer(actor), |connection| {
                reservation.carry_out(connection).boxed()
            })
            .await?;
        row.ok_or(RepoError::Conflict(Conflict::LoraFilename))?
            .try_into()
    }

    async fn record_progress(
        &self,
        actor: &Actor,
        id: LoraId,
        bytes_done: u64,
    ) -> Result<WriteOutcome<()>, RepoError> {
        let statement =
            about(RECORD_PROGRESS, actor, id).bind::<BigInt, _>(large_integer(bytes_done));
        let changed = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move { statement.execute(&mut connection).await }.boxed()
            })
            .await?;
        Ok(done_if(changed > 0))
    }

    async fn mark_ready(
        &self,
        actor: &Actor,
        id: LoraId,
        received: ReceivedLora,
    ) -> Result<WriteOutcome<Lora>, RepoError> {
        let name = about(NAME_RESERVED, actor, id);
        let lock = about(LOCK_RESERVED, actor, id);
        let row = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move {
                    let named: Option<NamedRow> =
                        name.get_result(&mut connection).await.optional()?;
                    let Some(named) = named else {
                        return Ok(None);
                    };
                    lock_filename(connection, named.user_id, &named.filename).await?;
                    let reserved: Option<IdRow> =
                        lock.get_result(&mut connection).await.optional()?;
                    if reserved.is_none() {
                        return Ok(None);
                    }
                    make_ready(connection, id, &named, received).await
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
        let statement = bind_failure(about(MARK_FAILED, actor, id), &failure);
        let mut rows = self.rows(Role::Writer(actor), statement).await?;
        outcome(rows.pop())
    }

    async fn get(&self, actor: &Actor, id: LoraId) -> Result<Option<Lora>, RepoError> {
        let statement = Statement::new(GET).bind::<SqlUuid, _>(id.as_uuid());
        let mut loras = self.read(Role::Person(actor), statement).await?;
        Ok(loras.pop())
    }

    async fn find_ready(
        &self,
        actor: &Actor,
        names: Vec<LoraName>,
    ) -> Result<Vec<Lora>, RepoError> {
        self.read(Role::Person(actor), find_statement(actor, names))
            .await
    }

    async fn versions(&self, actor: &Actor, id: LoraId) -> Result<Option<Vec<Lora>>, RepoError> {
        let statement = about(VERSIONS, actor, id);
        let mut found = self.read(Role::Person(actor), statement).await?;
        if found.is_empty() {
            return Ok(None);
        }
        found.retain(|lora| lora.status == LoraStatus::Ready);
        Ok(Some(found))
    }

    async fn list(
        &self,
        actor: &Actor,
        filter: LoraFilter,
        page: PageRequest,
    ) -> Result<Page<Lora>, RepoError> {
        let statement = list_statement(actor, &filter, &page);
        let loras = self.read(Role::Person(actor), statement).await?;
        Ok(Page::from_rows(loras, page.limit, Lora::cursor))
    }

    async fn delete(&self, actor: &Actor, id: LoraId) -> Result<WriteOutcome<()>, RepoError> {
        let name = about(NAME, actor, id);
        let delete = about(DELETE, actor, id);
        let deleted = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move {
                    let named: Option<NamedRow> =
                        name.get_result(&mut connection).await.optional()?;
                    let Some(named) = named else {
                        return Ok(0);
                    };
                    lock_filename(connection, named.user_id, &named.filename).await?;
                    delete.execute(&mut connection).await
                }
                .boxed()
            })
            .await?;
        Ok(done_if(deleted > 0))
    }

    async fn load_for_sync(&self, ids: Vec<LoraId>) -> Result<Vec<Lora>, RepoError> {
        let ids: Vec<Uuid> = ids.into_iter().map(LoraId::as_uuid).collect();
        let statement = Statement::new(LOAD).bind::<Array<SqlUuid>, _>(ids);
        self.read(Role::Service, statement).await
    }

    async fn due_for_cleaning(&self, limit: u16) -> Result<Vec<Lora>, RepoError> {
        let due = Statement::new(DUE_FOR_CLEANING).bind::<BigInt, _>(i64::from(limit));
        let rows = self
            .store
            .transact(Role::Service, |mut connection| {
                async move {
                    Statement::new(SWEEP).execute(&mut connection).await?;
                    due.load(&mut connection).await
                }
                .boxed()
            })
            .await?;
        loras(rows)
    }

    async fn forget(&self, id: LoraId) -> Result<(), RepoError> {
        let about = |sql| Statement::new(sql).bind::<SqlUuid, _>(id.as_uuid());
        let (row, object) = (about(FORGET_DELETED), about(FORGET_OBJECT));
        self.store
            .transact(Role::Service, |mut connection| {
                async move {
                    row.execute(&mut connection).await?;
                    object.execute(&mut connection).await?;
                    Ok(())
                }
                .boxed()
            })
            .await
    }

    async fn paths_in_use(&self) -> Result<BTreeSet<LoraPath>, RepoError> {
        let rows: Vec<PathRow> = self
            .rows(Role::Service, Statement::new(PATHS_IN_USE))
            .await?;
        rows.iter().map(|row| path_of(&row.path)).collect()
    }

    async fn contents_at(&self, paths: Vec<LoraPath>) -> Result<Vec<PathContent>, RepoError> {
        let paths: Vec<String> = paths.iter().map(ToString::to_string).collect();
        let statement = Statement::new(CONTENTS_AT).bind::<Array<Text>, _>(paths);
        let rows: Vec<ContentRow> = self.rows(Role::Service, statement).await?;
        rows.into_iter()
            .map(|row| {
                Ok(PathContent {
                    path: path_of(&row.path)?,
                    sha256: row.sha256.parse().map_err(|_broken| {
                        inconsistent("comfyui_lora_paths", "sha256", &row.path)
                    })?,
                    is_alive: row.is_alive,
                })
            })
            .collect()
    }

    async fn known_owners(&self, owners: Vec<BlobOwner>) -> Result<BTreeSet<BlobOwner>, RepoError> {
        let rows: Vec<OwnerRow> = self.rows(Role::Service, owners_statement(&owners)).await?;
        let known: BTreeSet<BlobOwner> =
            rows.into_iter().filter_map(OwnerRow::into_owner).collect();
        // A run of another person's of that id is not the one that was asked for.
        Ok(owners
            .into_iter()
            .filter(|owner| known.contains(owner))
            .collect())
    }

    async fn installation(&self) -> Result<Uuid, RepoError> {
        let mut rows: Vec<IdRow> = self
            .rows(Role::Service, Statement::new(INSTALLATION))
            .await?;
        rows.pop()
            .map(|row| row.id)
            .ok_or_else(|| inconsistent("comfyui_installation", "id", "the only one"))
    }
}

fn done_if(is_done: bool) -> WriteOutcome<()> {
    if is_done {
        WriteOutcome::Done(())
    } else {
        WriteOutcome::NotFound
    }
}

fn outcome(row: Option<LoraRow>) -> Result<WriteOutcome<Lora>, RepoError> {
    Ok(match row.map(Lora::try_from).transpose()? {
        Some(lora) => WriteOutcome::Done(lora),
        None => WriteOutcome::NotFound,
    })
}
