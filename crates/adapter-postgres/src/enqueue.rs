//! How a run comes into the queue: the statements, and what they answer.

use atelier_domain::ids::{InputId, LoraId, RunId, WorkflowId};
use atelier_domain::ports::{EnqueueOutcome, EnqueueTerms, RepoError};
use atelier_domain::run::{NewRun, Run};
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Int2, Int4, Interval, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use serde_json::Value;
use uuid::Uuid;

use crate::idempotency::{EarlierRow, KEPT, answer_status};
use crate::json_text::JsonText;
use crate::queue_statements::{checkpoint, interval};
use crate::run_rows::integer;
use crate::statement::Statement;

/// Everything in one statement, so that it takes no more round trips than a mere insert. Triggers write the first event
/// and wake the workers.
const ENQUEUE: &str = "\
    select * from atelier.enqueue_run($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, \
      $19, $20, $21, $22)";

pub(crate) fn enqueue_statement(new: NewRun, terms: EnqueueTerms) -> Statement {
    let lora_ids: Vec<Uuid> = new.lora_ids.into_iter().map(LoraId::as_uuid).collect();
    let input_ids: Vec<Uuid> = new.input_ids.into_iter().map(InputId::as_uuid).collect();
    let (request, answer) = terms.idempotency.unzip();
    let status = answer.as_ref().map(answer_status);
    let (location, body) = answer.map(|answer| (answer.location, answer.body)).unzip();
    let fingerprint = request
        .as_ref()
        .map(|request| request.fingerprint.to_string());
    let key = request
        .as_ref()
        .map(|request| request.key.as_str().to_owned());
    let (method, path) = request
        .map(|request| (request.method, request.path))
        .unzip();
    Statement::new(ENQUEUE)
        .bind::<SqlUuid, _>(new.id.as_uuid())
        .bind::<Nullable<SqlUuid>, _>(new.workflow_id.map(WorkflowId::as_uuid))
        .bind::<Json, _>(JsonText::of(&Value::Object(new.input_params)))
        .bind::<Json, _>(JsonText(new.graph.as_str().to_owned()))
        .bind::<Int4, _>(integer(new.nodes_total))
        .bind::<Array<SqlUuid>, _>(lora_ids)
        .bind::<Nullable<Text>, _>(checkpoint(new.checkpoint))
        .bind::<Int2, _>(i16::from(new.priority.value()))
        .bind::<Int4, _>(integer(new.timeout_s))
        .bind::<Nullable<SqlUuid>, _>(new.retry_of.map(RunId::as_uuid))
        .bind::<Timestamptz, _>(new.created_at)
        .bind::<BigInt, _>(i64::from(terms.max_pending))
        .bind::<Array<SqlUuid>, _>(input_ids)
        .bind::<Nullable<Text>, _>(trace_parent(new.trace_parent))
        .bind::<Nullable<Text>, _>(method)
        .bind::<Nullable<Text>, _>(path)
        .bind::<Nullable<Text>, _>(key)
        .bind::<Nullable<Text>, _>(fingerprint)
        .bind::<Interval, _>(interval(KEPT))
        .bind::<Nullable<Int2>, _>(status)
        .bind::<Nullable<Text>, _>(location.flatten())
        .bind::<Nullable<Text>, _>(body)
}

/// A trace's name, if it can be one: it comes with a request, and is not worth losing a run over.
fn trace_parent(text: Option<String>) -> Option<String> {
    const LONGEST: usize = 100;
    text.filter(|text| text.len() <= LONGEST && !text.contains('\0'))
}

#[derive(QueryableByName)]
pub(crate) struct EnqueuedRow {
    #[diesel(embed)]
    earlier: EarlierRow,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    of_workflow: Option<Uuid>,
    #[diesel(sql_type = Nullable<SqlUuid>)]
    retry_of_run: Option<Uuid>,
}

impl EnqueuedRow {
    /// What became of `pending`.
    pub(crate) fn into_outcome(self, pending: Run) -> Result<EnqueueOutcome, RepoError> {
        match self.earlier.outcome.as_str() {
            "enqueued" => Ok(EnqueueOutcome::Enqueued(Box::new(Run {
                workflow_id: self.of_workflow.map(Into::into),
                retry_of: self.retry_of_run.map(Into::into),
                ..pending
            }))),
            "full" => Ok(EnqueueOutcome::TooManyPending),
            _ => self.earlier.into_earlier().map(EnqueueOutcome::Earlier),
        }
    }
}
