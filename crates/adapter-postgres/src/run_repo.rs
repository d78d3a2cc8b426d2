//! Runs, from their owners' side.

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::{LoraId, RunId, WorkflowId};
use atelier_domain::page::{Page, PageRequest};
use atelier_domain::ports::{RepoError, RunRepo, WriteOutcome};
use atelier_domain::run::{
    NewRun, Run, RunEvent, RunFilter, RunProgress, RunStatus, RunTransition,
};
use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{Array, BigInt, Int4, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use serde_json::Value;
use uuid::Uuid;

use crate::json_text::JsonText;
use crate::page::{before, rows_to_fetch};
use crate::run_rows::{RunEventRow, RunRow, integer, run_columns};
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

/// The workflow is looked up again, as the person: if it was deleted meanwhile, the run stays without it. Triggers write
/// the first event and wake the workers.
const ENQUEUE: &str = "\
    insert into public.comfyui_workflow_runs \
      (id, user_id, workflow_id, input_params, graph, nodes_total, lora_ids, created_at) \
    values ($1, $2, (select workflow.id from public.comfyui_workflows as workflow where workflow.id = $3), \
      $4, $5, $6, $7, $8) \
    returning workflow_id";

const GET: &str = concat!(
    "select ",
    run_columns!(),
    " from public.comfyui_workflow_runs as run where run.id = $1"
);

const LIST: &str = concat!(
    "select ",
    run_columns!(),
    " from public.comfyui_workflow_runs as run \
     where run.user_id = $1 and (run.created_at, run.id) < ($2, $3) and ($5 is null or run.status = $5) \
     order by run.created_at desc, run.id desc limit $4"
);

const LIST_OF_WORKFLOW: &str = concat!(
    "select ",
    run_columns!(),
    " from public.comfyui_workflow_runs as run \
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
    async fn enqueue(&self, actor: &Actor, new: NewRun) -> Result<Run, RepoError> {
        let lora_ids: Vec<Uuid> = new.lora_ids.iter().copied().map(LoraId::as_uuid).collect();
        let input_params = Value::Object(new.input_params);
        let statement = Statement::new(ENQUEUE)
            .bind::<SqlUuid, _>(new.id.as_uuid())
            .bind::<SqlUuid, _>(actor.user_id().as_uuid())
            .bind::<SqlUuid, _>(new.workflow_id.as_uuid())
            .bind::<Json, _>(JsonText::of(&input_params))
            .bind::<Json, _>(JsonText(new.graph.as_str().to_owned()))
            .bind::<Int4, _>(integer(new.nodes_total))
            .bind::<Array<SqlUuid>, _>(lora_ids)
            .bind::<Timestamptz, _>(new.created_at);
        let enqueued: Enqueued = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move { statement.get_result(&mut connection).await }.boxed()
            })
            .await?;
        let Value::Object(input_params) = input_params else {
            return Err(RepoError::Backend("an object is an object".into()));
        };
        Ok(Run {
            id: new.id,
            workflow_id: enqueued.workflow_id.map(Into::into),
            user_id: actor.user_id(),
            status: RunStatus::Pending,
            phase: None,
            queue_position: None,
            progress: RunProgress {
                nodes_total: new.nodes_total,
                ..RunProgress::default()
            },
            input_params,
            comfyui_prompt_id: None,
            backend: None,
            outputs: Vec::new(),
            error: None,
            attempt: 0,
            created_at: new.created_at,
            started_at: None,
            completed_at: None,
        })
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

#[derive(QueryableByName)]
struct Enqueued {
    #[diesel(sql_type = Nullable<SqlUuid>)]
    workflow_id: Option<Uuid>,
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
