//! Requests that are carried out once: what came before, and what is to be answered again.

use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::idempotency::{
    EarlierRequest, IdempotentRequest, RETENTION_HOURS, StoredAnswer,
};
use atelier_domain::ports::RepoError;
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{Bool, Int2, Interval, Nullable, Text, Uuid as SqlUuid};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;

use crate::queue_statements::interval;
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// How long the answer to a request is kept.
pub(crate) const KEPT: Duration = Duration::from_secs(RETENTION_HOURS as u64 * 3_600);

const EARLIER: &str = "select * from atelier.earlier_request($1, $2, $3, $4, $5)";

const LOCK: &str = "\
    select pg_try_advisory_xact_lock(atelier.idempotency_lock($1, $2, $3, $4)) as is_ours";

const FORGET: &str = "\
    delete from public.comfyui_idempotency_keys where user_id = $1 and method = $2 and path = $3 and key = $4";

const KEEP: &str = "\
    insert into public.comfyui_idempotency_keys (user_id, method, path, key, fingerprint, status, location, body) \
    values ($1, $2, $3, $4, $5, $6, $7, $8)";

/// What an earlier request left, as the database tells it.
#[derive(QueryableByName)]
pub(crate) struct EarlierRow {
    #[diesel(sql_type = Text)]
    pub(crate) outcome: String,
    #[diesel(sql_type = Nullable<Int2>)]
    answer_status: Option<i16>,
    #[diesel(sql_type = Nullable<Text>)]
    answer_location: Option<String>,
    #[diesel(sql_type = Nullable<Text>)]
    answer_body: Option<String>,
}

impl EarlierRow {
    /// That one with the same key is being answered at this moment.
    fn underway() -> Self {
        Self {
            outcome: "underway".to_owned(),
            answer_status: None,
            answer_location: None,
            answer_body: None,
        }
    }

    pub(crate) fn into_earlier(self) -> Result<EarlierRequest, RepoError> {
        let status = self
            .answer_status
            .and_then(|status| u16::try_from(status).ok());
        match (self.outcome.as_str(), status, self.answer_body) {
            ("answered", Some(status), Some(body)) => Ok(EarlierRequest::Answered(StoredAnswer {
                status,
                location: self.answer_location,
                body,
            })),
            ("different", _, _) => Ok(EarlierRequest::Different),
            ("underway", _, _) => Ok(EarlierRequest::Underway),
            (other, _, _) => Err(RepoError::Backend(
                format!("the database said `{other}` of an earlier request").into(),
            )),
        }
    }
}

#[derive(QueryableByName)]
struct LockRow {
    #[diesel(sql_type = Bool)]
    is_ours: bool,
}

fn earlier_statement(request: &IdempotentRequest) -> Statement {
    Statement::new(EARLIER)
        .bind::<Text, _>(request.method.clone())
        .bind::<Text, _>(request.path.clone())
        .bind::<Text, _>(request.key.as_str().to_owned())
        .bind::<Text, _>(request.fingerprint.to_string())
        .bind::<Interval, _>(interval(KEPT))
}

/// What an earlier request of the actor's left.
pub(crate) async fn earlier_request(
    store: &PgStore,
    actor: &Actor,
    request: &IdempotentRequest,
) -> Result<Option<EarlierRequest>, RepoError> {
    let statement = earlier_statement(request);
    let row: Option<EarlierRow> = store
        .transact(Role::Writer(actor), |mut connection| {
            async move { statement.get_result(&mut connection).await.optional() }.boxed()
        })
        .await?;
    row.map(EarlierRow::into_earlier).transpose()
}

/// A request that is carried out in the transaction that is open, once.
pub(crate) struct OnceOnly {
    actor: Actor,
    request: IdempotentRequest,
    answer: StoredAnswer,
}

impl OnceOnly {
    pub(crate) fn new(actor: &Actor, request: IdempotentRequest, answer: StoredAnswer) -> Self {
        Self {
            actor: actor.clone(),
            request,
            answer,
        }
    }

    fn about(&self, sql: &'static str) -> Statement {
        Statement::new(sql)
            .bind::<SqlUuid, _>(self.actor.user_id().as_uuid())
            .bind::<Text, _>(self.request.method.clone())
            .bind::<Text, _>(self.request.path.clone())
            .bind::<Text, _>(self.request.key.as_str().to_owned())
    }

    /// Keeps others of the same key out until the transaction ends; says what came before, if something did.
    pub(crate) async fn begin(
        &self,
        mut connection: &AsyncPgConnection,
    ) -> QueryResult<Option<EarlierRow>> {
        let LockRow { is_ours } = self.about(LOCK).get_result(&mut connection).await?;
        let earlier: Option<EarlierRow> = earlier_statement(&self.request)
            .get_result(&mut connection)
            .await
            .optional()?;
        Ok(match earlier {
            // Our own lock is the one that it sees.
            Some(row) if is_ours && row.outcome == "underway" => None,
            None if !is_ours => Some(EarlierRow::underway()),
            other => other,
        })
    }

    /// Keeps the answer, in place of one that is too old to be given again.
    pub(crate) async fn end(&self, mut connection: &AsyncPgConnection) -> QueryResult<()> {
        self.about(FORGET).execute(&mut connection).await?;
        self.about(KEEP)
            .bind::<Text, _>(self.request.fingerprint.to_string())
            .bind::<Int2, _>(answer_status(&self.answer))
            .bind::<Nullable<Text>, _>(self.answer.location.clone())
            .bind::<Text, _>(self.answer.body.clone())
            .execute(&mut connection)
            .await?;
        Ok(())
    }
}

/// An answer's status as the database keeps it.
pub(crate) fn answer_status(answer: &StoredAnswer) -> i16 {
    i16::try_from(answer.status).unwrap_or(i16::MAX)
}
