//! Workflows.

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::WorkflowId;
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{RepoError, WorkflowRepo, WriteOutcome};
use atelier_domain::workflow::{
    NewWorkflow, Revision, Workflow, WorkflowChange, WorkflowFilter, WorkflowScope, WorkflowSummary,
};
use chrono::{DateTime, Utc};
use diesel::prelude::{
    BoolExpressionMethods, ExpressionMethods, OptionalExtension, QueryDsl, SelectableHelper,
};
use diesel::sql_types::{Array, BigInt, Bool, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use uuid::Uuid;

use crate::json_text::JsonText;
use crate::page::{before, rows_to_fetch};
use crate::run_rows::storable;
use crate::schema::comfyui_workflows::dsl::{
    comfyui_workflows, id as id_column, revision as revision_column, user_id as owner_column,
};
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;
use crate::workflow_rows::{WorkflowChangeRow, WorkflowRow, WorkflowSummaryRow};

/// Implements [`WorkflowRepo`].
#[derive(Clone, Debug)]
pub struct PgWorkflowRepo {
    store: PgStore,
}

impl PgWorkflowRepo {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }
}

#[async_trait]
impl WorkflowRepo for PgWorkflowRepo {
    async fn create(&self, actor: &Actor, new: NewWorkflow) -> Result<Workflow, RepoError> {
        let statement = Statement::new(CREATE)
            .bind::<SqlUuid, _>(new.id.as_uuid())
            .bind::<SqlUuid, _>(actor.user_id().as_uuid())
            .bind::<Text, _>(new.name.as_str().to_owned())
            .bind::<Nullable<Text>, _>(
                new.description
                    .as_ref()
                    .map(|text| text.as_str().to_owned()),
            )
            .bind::<Json, _>(JsonText(new.workflow_json.as_str().to_owned()))
            .bind::<Bool, _>(new.is_public)
            .bind::<Array<Text>, _>(new.tags.as_slice().to_vec())
            .bind::<Timestamptz, _>(new.created_at);
        self.store
            .transact_one(Role::Person(actor), statement, |mut connection, create| {
                async move { create.execute(&mut connection).await }.boxed()
            })
            .await?;
        Ok(Workflow {
            id: new.id,
            user_id: actor.user_id(),
            name: new.name,
            description: new.description,
            workflow_json: new.workflow_json,
            is_public: new.is_public,
            tags: new.tags,
            revision: Revision::FIRST,
            created_at: new.created_at,
            updated_at: new.created_at,
        })
    }

    async fn get(&self, actor: &Actor, id: WorkflowId) -> Result<Option<Workflow>, RepoError> {
        let statement = Statement::new(GET).bind::<SqlUuid, _>(id.as_uuid());
        let row: Option<WorkflowRow> = self
            .store
            .transact_one(Role::Person(actor), statement, |mut connection, get| {
                async move { get.get_result(&mut connection).await.optional() }.boxed()
            })
            .await?;
        row.map(Workflow::try_from).transpose()
    }

    async fn list(
        &self,
        actor: &Actor,
        filter: WorkflowFilter,
        page: PageRequest,
    ) -> Result<Page<WorkflowSummary>, RepoError> {
        let sql = match filter.scope {
            WorkflowScope::All => LIST_ALL,
            WorkflowScope::Own => LIST_OWN,
            WorkflowScope::Public => LIST_PUBLIC,
        };
        let (created_at, id) = before(&page);
        let statement = Statement::new(sql)
            .bind::<Timestamptz, _>(created_at)
            .bind::<SqlUuid, _>(id)
            .bind::<BigInt, _>(rows_to_fetch(&page))
            .bind::<Nullable<Text>, _>(filter.tag.as_deref().map(storable))
            .bind::<Nullable<Text>, _>(filter.text.as_deref().map(storable))
            .bind::<SqlUuid, _>(actor.user_id().as_uuid());
        let rows: Vec<WorkflowSummaryRow> = self
            .store
            .transact_one(Role::Person(actor), statement, |mut connection, list| {
                async move { list.load(&mut connection).await }.boxed()
            })
            .await?;
        let summaries = rows
            .into_iter()
            .map(WorkflowSummary::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Page::from_rows(
            summaries,
            page.limit,
            WorkflowSummary::cursor,
        ))
    }

    async fn update(
        &self,
        actor: &Actor,
        id: WorkflowId,
        change: WorkflowChange,
        expected: Option<Revision>,
        at: DateTime<Utc>,
    ) -> Result<WriteOutcome<Workflow>, RepoError> {
        let change = WorkflowChangeRow::new(change, at);
        let (id, owner) = (id.as_uuid(), actor.user_id().as_uuid());
        let (changed, row) = self
            .store
            .transact(Role::Person(actor), |mut connection| {
                async move {
                    let mut update = diesel::update(comfyui_workflows)
                        .filter(id_column.eq(id).and(owner_column.eq(owner)))
                        .set(change)
                        .into_boxed();
                    if let Some(expected) = expected {
                        update = update.filter(revision_column.eq(expected.get()));
                    }
                    let changed = update
                        .returning(WorkflowRow::as_returning())
                        .get_result(&mut connection)
                        .await
                        .optional()?;
                    match changed {
                        Some(row) => Ok((true, Some(row))),
                        None => Ok((false, visible(connection, id).await?)),
                    }
                }
                .boxed()
            })
            .await?;
        let Some(row) = row else {
            return Ok(WriteOutcome::NotFound);
        };
        if row.owner() != owner {
            return Ok(WriteOutcome::NotYours);
        }
        let workflow = Workflow::try_from(row)?;
        Ok(if changed {
            WriteOutcome::Done(workflow)
        } else {
            WriteOutcome::Stale(workflow)
        })
    }

    async fn delete(
        &self,
        actor: &Actor,
        id: WorkflowId,
        expected: Option<Revision>,
    ) -> Result<WriteOutcome<()>, RepoError> {
        let (id, owner) = (id.as_uuid(), actor.user_id().as_uuid());
        self.store
            .transact(Role::Person(actor), |mut connection| {
                async move {
                    let mut delete = diesel::delete(comfyui_workflows)
                        .filter(id_column.eq(id).and(owner_column.eq(owner)))
                        .into_boxed();
                    if let Some(expected) = expected {
                        delete = delete.filter(revision_column.eq(expected.get()));
                    }
                    if delete.execute(&mut connection).await? > 0 {
                        return Ok(WriteOutcome::Done(()));
                    }
                    let there: Option<Uuid> = comfyui_workflows
                        .find(id)
                        .select(owner_column)
                        .first(&mut connection)
                        .await
                        .optional()?;
                    Ok(match there {
                        None => WriteOutcome::NotFound,
                        Some(other) if other != owner => WriteOutcome::NotYours,
                        Some(_) => WriteOutcome::Stale(()),
                    })
                }
                .boxed()
            })
            .await
    }
}

async fn visible(
    mut connection: &AsyncPgConnection,
    id: Uuid,
) -> diesel::QueryResult<Option<WorkflowRow>> {
    comfyui_workflows
        .find(id)
        .select(WorkflowRow::as_select())
        .first(&mut connection)
        .await
        .optional()
}

const GET: &str = "\
    select id, user_id, name, description, workflow_json, is_public, tags, revision, created_at, updated_at \
    from public.comfyui_workflows where id = $1";

/// By hand: the query builder writes DEFAULT for what is none, and prepares such a statement anew each time.
const CREATE: &str = "\
    insert into public.comfyui_workflows \
      (id, user_id, name, description, workflow_json, is_public, tags, created_at, updated_at) \
    values ($1, $2, $3, $4, $5, $6, $7, $8, $8)";

macro_rules! branch {
    ($condition:literal) => {
        concat!(
            "select id, user_id, name, description, is_public, tags, created_at, updated_at \
             from public.comfyui_workflows \
             where ",
            $condition,
            " and (created_at, id) < ($1, $2) \
             and ($4 is null or $4 = any (tags)) \
             and ($5 is null or strpos(lower(name), lower($5)) > 0 or strpos(lower(description), lower($5)) > 0) \
             order by created_at desc, id desc limit $3"
        )
    };
}

const LIST_OWN: &str = branch!("user_id = $6");

const LIST_PUBLIC: &str = branch!("is_public and $6 is not null");

/// Two branches, each in the order of an index of its own and cut off there. One scan with `or is_public` would read
/// the whole table to sort it.
const LIST_ALL: &str = concat!(
    "select * from ((",
    branch!("user_id = $6"),
    ") union all (",
    branch!("is_public and user_id <> $6"),
    ")) as page order by created_at desc, id desc limit $3"
);
