//! Runs, from their owners' side.

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::idempotency::{EarlierRequest, IdempotentRequest};
use atelier_domain::ids::{RunId, WorkflowId};
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{EnqueueOutcome, EnqueueTerms, RepoError, RunRepo, WriteOutcome};
use atelier_domain::run::{
    NewRun, Run, RunBlueprint, RunEvent, RunFilter, RunStatus, RunTransition,
};
use chrono::{DateTime, Utc};
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;

use crate::enqueue::{EnqueuedRow, enqueue_statement};
use crate::idempotency;
use crate::page::{before, rows_to_fetch};
use crate::run_rows::{BlueprintRow, RunEventRow, RunRow, StatusRow, run_columns};
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`RunRepo`].
#[derive(Clone, Debug)]
pub struct PgRunRepo {
    store: PgStore,
}

impl PgRunRepo {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }
}

const GET: &str = concat!(
    "select ",
    run_columns!(),
    ", outlook.queue_position, clock_timestamp() \
       + make_interval(secs => (outlook.queue_position + 1) * outlook.seconds_apart) as estimated_start_at \
     from public.comfyui_workflow_runs as run \
     left join lateral atelier.queue_outlook(case when run.status = 'pending' then run.id end) as outlook on true \
     where run.id = $1"
);

const STATUS: &str = "select run.status from public.comfyui_workflow_runs as run where run.id = $1";

const BLUEPRINT: &str = "\
    select run.id, run.status, run.workflow_id, run.input_params, run.graph, run.nodes_total, run.lora_ids, \
      run.input_ids, run.checkpoint, run.priority, run.timeout_seconds \
    from public.comfyui_workflow_runs as run where run.id = $1";

const LIST: &str = concat!(
    "select ",
    run_columns!(),
    ", null::bigint as queue_position, null::timestamptz as estimated_start_at \
     from public.comfyui_workflow_runs as run \
     where run.user_id = $1 and (run.created_at, run.id) < ($2, $3) and ($5 is null or run.status = $5) \
     order by run.created_at desc, run.id desc limit $4"
);

const LIST_OF_WORKFLOW: &str = concat!(
    "select ",
    run_columns!(),
    ", null::bigint as queue_position, null::timestamptz as estimated_start_at \
     from public.comfyui_workflow_runs as run \
     where run.user_id = $1 and (run.created_at, run.id) < ($2, $3) and ($5 is null or run.status = $5) \
     and run.workflow_id = $6 \
     order by run.created_at desc, run.id desc limit $4"
);

/// A pending run is over at once; a running one's worker is told. `$4` is what cancelling makes of a pending run.
const REQUEST_CANCEL: &str = "\
    update public.comfyui_workflow_runs as run set \
      cancel_requested_at = coalesce(run.cancel_requested_at, $3), \
      status = case when run.status = $5 then $4 else run.status end, \
      completed_at = case when run.status = $5 then $3 else run.completed_at end \
    where run.id = $1 and run.user_id = $2 and run.status in ($5, $6)";

/// At least one row if the run is there.
const EVENTS: &str = "\
    select run.id as run_id, event.sequence, event.kind, event.data, event.created_at \
    from public.comfyui_workflow_runs as run \
    left join lateral ( \
      select * from public.comfyui_run_events as event \
      where event.run_id = run.id and event.sequence > $2 order by event.sequence limit $3 \
    ) as event on true \
    where run.id = $1 order by event.sequence";

#[async_trait]
impl RunRepo for PgRunRepo {
    async fn earlier_request(
        &self,
        actor: &Actor,
        request: &IdempotentRequest,
    ) -> Result<Option<EarlierRequest>, RepoError> {
        idempotency::earlier_request(&self.store, actor, request).await
    }

    async fn enqueue(
        &self,
        actor: &Actor,
        new: NewRun,
        terms: EnqueueTerms,
    ) -> Result<EnqueueOutcome, RepoError> {
        let pending = new.pending(actor.user_id());
        let statement = enqueue_statement(new, terms);
        let row: EnqueuedRow = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move { statement.get_result(&mut connection).await }.boxed()
            })
            .await?;
        row.into_outcome(pending)
    }

    async fn blueprint(&self, actor: &Actor, id: RunId) -> Result<Option<RunBlueprint>, RepoError> {
        let statement = Statement::new(BLUEPRINT).bind::<SqlUuid, _>(id.as_uuid());
        let row: Option<BlueprintRow> = self
            .store
            .transact(Role::Person(actor), |mut connection| {
                async move { statement.get_result(&mut connection).await.optional() }.boxed()
            })
            .await?;
        row.map(RunBlueprint::try_from).transpose()
    }

    async fn get(&self, actor: &Actor, id: RunId) -> Result<Option<Run>, RepoError> {
        self.store
            .transact(Role::Person(actor), |connection| {
                visible(connection, id).boxed()
            })
            .await?
            .map(Run::try_from)
            .transpose()
    }

    async fn status(&self, actor: &Actor, id: RunId) -> Result<Option<RunStatus>, RepoError> {
        let statement = Statement::new(STATUS).bind::<SqlUuid, _>(id.as_uuid());
        let row: Option<StatusRow> = self
            .store
            .transact(Role::Person(actor), |mut connection| {
                async move { statement.get_result(&mut connection).await.optional() }.boxed()
            })
            .await?;
        row.map(|row| {
            RunStatus::parse(&row.status)
                .ok_or_else(|| RepoError::Backend("a run has a status that is none".into()))
        })
        .transpose()
    }

    async fn list(
        &self,
        actor: &Actor,
        filter: RunFilter,
        page: PageRequest,
    ) -> Result<Page<Run>, RepoError> {
        let sql = match filter.workflow_id {
            Some(_) => LIST_OF_WORKFLOW,
            None => LIST,
        };
        let (created_at, id) = before(&page);
        let statement = Statement::new(sql)
            .bind::<SqlUuid, _>(actor.user_id().as_uuid())
            .bind::<Timestamptz, _>(created_at)
            .bind::<SqlUuid, _>(id)
            .bind::<BigInt, _>(rows_to_fetch(&page))
            .bind::<Nullable<Text>, _>(filter.status.map(RunStatus::as_str))
            .bind::<Nullable<SqlUuid>, _>(filter.workflow_id.map(WorkflowId::as_uuid));
        let rows: Vec<RunRow> = self
            .store
            .transact(Role::Person(actor), |mut connection| {
                async move { statement.load(&mut connection).await }.boxed()
            })
            .await?;
        let runs = rows
            .into_iter()
            .map(Run::try_from)
            .collect::<Result<_, _>>()?;
        Ok(Page::from_rows(runs, page.limit, Run::cursor))
    }

    async fn request_cancel(
        &self,
        actor: &Actor,
        id: RunId,
        at: DateTime<Utc>,
    ) -> Result<WriteOutcome<Run>, RepoError> {
        let cancelled = RunStatus::Pending
            .after(RunTransition::Cancel)
            .map_err(|refused| RepoError::Backend(Box::new(refused)))?;
        let statement = Statement::new(REQUEST_CANCEL)
            .bind::<SqlUuid, _>(id.as_uuid())
            .bind::<SqlUuid, _>(actor.user_id().as_uuid())
            .bind::<Timestamptz, _>(at)
            .bind::<Text, _>(cancelled.as_str())
            .bind::<Text, _>(RunStatus::Pending.as_str())
            .bind::<Text, _>(RunStatus::Running.as_str());
        let (requested, row) = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move {
                    let requested = statement.execute(&mut connection).await? > 0;
                    Ok((requested, visible(connection, id).await?))
                }
                .boxed()
            })
            .await?;
        Ok(match row.map(Run::try_from).transpose()? {
            None => WriteOutcome::NotFound,
            Some(run) if requested => WriteOutcome::Done(run),
            Some(run) => WriteOutcome::Stale(run),
        })
    }

    async fn events(
        &self,
        actor: &Actor,
        id: RunId,
        after_sequence: i64,
        limit: u16,
    ) -> Result<Option<Vec<RunEvent>>, RepoError> {
        let statement = Statement::new(EVENTS)
            .bind::<SqlUuid, _>(id.as_uuid())
            .bind::<BigInt, _>(after_sequence)
            .bind::<BigInt, _>(i64::from(limit));
        let rows: Vec<RunEventRow> = self
            .store
            .transact(Role::Person(actor), |mut connection| {
                async move { statement.load(&mut connection).await }.boxed()
            })
            .await?;
        if rows.is_empty() {
            return Ok(None);
        }
        rows.into_iter()
            .filter_map(|row| row.into_event().transpose())
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

async fn visible(
    mut connection: &AsyncPgConnection,
    id: RunId,
) -> diesel::QueryResult<Option<RunRow>> {
    Statement::new(GET)
        .bind::<SqlUuid, _>(id.as_uuid())
        .get_result(&mut connection)
        .await
        .optional()
}
