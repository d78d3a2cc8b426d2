//! Transfers of LoRAs to where they belong.

use std::time::Duration;

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::idempotency::{EarlierRequest, IdempotentRequest};
use atelier_domain::ids::{ClaimToken, LoraId};
use atelier_domain::lora::{Lora, LoraFailure, ReceivedLora};
use atelier_domain::ports::{
    ClaimedTransfer, Conflict, ImportOutcome, ImportTerms, LoraTransfers, NewImport, RepoError,
    TransferClaim, TransferWork,
};
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{Array, BigInt, Int4, Interval, Json, Nullable, Text, Uuid as SqlUuid};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use uuid::Uuid;

use crate::idempotency::{self, EarlierRow, OnceOnly};
use crate::json_text::JsonText;
use crate::lora_rows::LoraRow;
use crate::lora_statements::LOAD;
use crate::lora_uploads::{PIECES, PieceRow};
use crate::lora_writes::{NamedRow, Reservation, bind_failure, lock_filename, make_ready};
use crate::queue_rows::IdRow;
use crate::queue_statements::interval;
use crate::remote_json::{remote_file, remote_json};
use crate::run_rows::{large_integer, natural, storable};
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`LoraTransfers`].
#[derive(Clone, Debug)]
pub struct PgLoraTransfers {
    store: PgStore,
}

/// The transfer and its LoRA, if the claim of token `$2` holds it still.
macro_rules! claimed {
    () => {
        " from public.comfyui_lora_models as lora \
         join public.comfyui_lora_transfers as transfer on transfer.lora_id = lora.id \
         where lora.id = $1 and transfer.claim_token = $2 and lora.deleted_at is null \
         and lora.status in ('uploading', 'importing') "
    };
}

/// The same, kept from everybody else: the LoRA first, as whoever deletes it does.
macro_rules! mine {
    () => {
        concat!(
            "with mine as (select lora.id, transfer.remote is null as is_of_pieces",
            claimed!(),
            "for no key update of lora, transfer) "
        )
    };
}

/// One person begins one import at a time, so that none is counted too late.
const LOCK_IMPORTS: &str = "\
    select pg_advisory_xact_lock(hashtextextended(jsonb_build_array('atelier.lora_imports', $1)::text, 0))";

const UNFINISHED: &str = "\
    select count(*) as unfinished from public.comfyui_lora_transfers as transfer \
    join public.comfyui_lora_models as lora on lora.id = transfer.lora_id \
    where transfer.user_id = $1 and transfer.remote is not null \
    and lora.deleted_at is null and lora.status in ('uploading', 'importing')";

/// `$4` is the claim's token if the transfer is held. A trigger wakes the workers.
const BEGIN: &str = "\
    insert into public.comfyui_lora_transfers \
      (lora_id, user_id, remote, held, claim_token, claimed_by, lease_until, attempt) \
    values ($1, $2, $3, $4 is not null, $4, $5, clock_timestamp() + $6, case when $4 is null then 0 else 1 end)";

const CLAIM: &str = "select * from atelier.claim_lora_transfer($1, $2, $3, $4, $5)";

/// Of an upload in pieces all bytes are there; they are only being put together.
const REPORT: &str = concat!(
    mine!(),
    ", told as (update public.comfyui_lora_models as lora set \
         bytes_done = case when mine.is_of_pieces then greatest(lora.bytes_done, $3) else $3 end, \
         bytes_total = coalesce($4, lora.bytes_total), touched_at = now(), \
         expires_at = greatest(lora.expires_at, now() + interval '1 hour') \
       from mine where lora.id = mine.id) \
     update public.comfyui_lora_transfers as transfer set lease_until = clock_timestamp() + $5 \
     from mine where transfer.lora_id = mine.id"
);

const NAME_CLAIMED: &str = concat!("select lora.user_id, lora.filename", claimed!());

const LOCK_CLAIMED: &str = concat!(
    "select lora.id",
    claimed!(),
    "for no key update of lora, transfer"
);

const END: &str = "delete from public.comfyui_lora_transfers where lora_id = $1";

const FAIL: &str = concat!(
    mine!(),
    ", over as (delete from public.comfyui_lora_transfers as transfer using mine where transfer.lora_id = mine.id) \
     update public.comfyui_lora_models as lora set status = 'failed', error_code = $3, error_message = $4, \
       touched_at = now() \
     from mine where lora.id = mine.id"
);

const POSTPONE: &str = "\
    update public.comfyui_lora_transfers set \
      claim_token = null, claimed_by = null, lease_until = null, not_before = clock_timestamp() + $3 \
    where lora_id = $1 and claim_token = $2 and not held";

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    unfinished: i64,
}

#[derive(QueryableByName)]
struct ClaimedRow {
    #[diesel(sql_type = SqlUuid)]
    of_lora: Uuid,
    #[diesel(sql_type = Nullable<Json>)]
    remote_file: Option<JsonText>,
    #[diesel(sql_type = Int4)]
    attempt_number: i32,
}

/// What a transaction that was to begin an import came to.
enum Beginning {
    Begun(Box<LoraRow>),
    Earlier(EarlierRow),
    TooMany,
    InTheWay,
}

/// An import that is to be begun.
struct Import {
    owner: Uuid,
    max_unfinished: i64,
    once: Option<OnceOnly>,
    reservation: Reservation,
    begin: Statement,
}

impl Import {
    fn new(actor: &Actor, new: NewImport, terms: ImportTerms) -> Self {
        let (token, worker, lease) = match new.held {
            Some(claim) => (Some(claim.token), Some(claim.worker), Some(claim.lease)),
            None => (None, None, None),
        };
        let begin = Statement::new(BEGIN)
            .bind::<SqlUuid, _>(new.lora.id.as_uuid())
            .bind::<SqlUuid, _>(actor.user_id().as_uuid())
            .bind::<Json, _>(remote_json(&new.file))
            .bind::<Nullable<SqlUuid>, _>(token.map(ClaimToken::as_uuid))
            .bind::<Nullable<Text>, _>(worker.as_deref().map(storable))
            .bind::<Nullable<Interval>, _>(lease.map(interval));
        Self {
            owner: actor.user_id().as_uuid(),
            max_unfinished: i64::from(terms.max_unfinished),
            once: terms
                .idempotency
                .map(|(request, answer)| OnceOnly::new(actor, request, answer)),
            reservation: Reservation::new(actor, new.lora, None),
            begin,
        }
    }

    async fn carry_out(self, mut connection: &AsyncPgConnection) -> QueryResult<Beginning> {
        if let Some(once) = &self.once
            && let Some(earlier) = once.begin(connection).await?
        {
            return Ok(Beginning::Earlier(earlier));
        }
        let about = |sql| Statement::new(sql).bind::<SqlUuid, _>(self.owner);
        about(LOCK_IMPORTS).execute(&mut connection).await?;
        let CountRow { unfinished } = about(UNFINISHED).get_result(&mut connection).await?;
        if unfinished >= self.max_unfinished {
            return Ok(Beginning::TooMany);
        }
        let Some(row) = self.reservation.carry_out(connection).await? else {
            return Ok(Beginning::InTheWay);
        };
        self.begin.execute(&mut connection).await?;
        if let Some(once) = &self.once {
            once.end(connection).await?;
        }
        Ok(Beginning::Begun(Box::new(row)))
    }
}

/// A statement about a transfer under a claim.
fn under(sql: &'static str, lora: LoraId, token: ClaimToken) -> Statement {
    Statement::new(sql)
        .bind::<SqlUuid, _>(lora.as_uuid())
        .bind::<SqlUuid, _>(token.as_uuid())
}

/// Why an import of somebody's own credential is given up when its process is gone.
fn credential_gone() -> LoraFailure {
    LoraFailure {
        code: "credential_gone".to_owned(),
        message: "The credential for this import was lost before the file was there; send the import again."
            .to_owned(),
    }
}

impl PgLoraTransfers {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }

    /// Carries out one statement for a worker; says how many rows it changed.
    async fn execute(&self, statement: Statement) -> Result<usize, RepoError> {
        self.store
            .transact(Role::Service, |mut connection| {
                async move { statement.execute(&mut connection).await }.boxed()
            })
            .await
    }
}

#[async_trait]
impl LoraTransfers for PgLoraTransfers {
    async fn earlier_request(
        &self,
        actor: &Actor,
        request: &IdempotentRequest,
    ) -> Result<Option<EarlierRequest>, RepoError> {
        idempotency::earlier_request(&self.store, actor, request).await
    }

    async fn begin(
        &self,
        actor: &Actor,
        new: NewImport,
        terms: ImportTerms,
    ) -> Result<ImportOutcome, RepoError> {
        let import = Import::new(actor, new, terms);
        let beginning = self
            .store
            .transact(Role::Writer(actor), |connection| {
                import.carry_out(connection).boxed()
            })
            .await?;
        Ok(match beginning {
            Beginning::Begun(row) => ImportOutcome::Begun(Box::new(Lora::try_from(*row)?)),
            Beginning::Earlier(earlier) => ImportOutcome::Earlier(earlier.into_earlier()?),
            Beginning::TooMany => ImportOutcome::TooMany,
            Beginning::InTheWay => return Err(RepoError::Conflict(Conflict::LoraFilename)),
        })
    }

    async fn claim(&self, claim: TransferClaim) -> Result<Option<ClaimedTransfer>, RepoError> {
        let take = Statement::new(CLAIM)
            .bind::<SqlUuid, _>(claim.token.as_uuid())
            .bind::<Text, _>(storable(&claim.worker))
            .bind::<Interval, _>(interval(claim.lease));
        let take = bind_failure(take, &credential_gone());
        let taken = self
            .store
            .transact(Role::Service, |mut connection| {
                async move {
                    let row: Option<ClaimedRow> =
                        take.get_result(&mut connection).await.optional()?;
                    let Some(row) = row else {
                        return Ok(None);
                    };
                    let lora: LoraRow = Statement::new(LOAD)
                        .bind::<Array<SqlUuid>, _>(vec![row.of_lora])
                        .get_result(&mut connection)
                        .await?;
                    let pieces: Vec<PieceRow> = Statement::new(PIECES)
                        .bind::<SqlUuid, _>(row.of_lora)
                        .load(&mut connection)
                        .await?;
                    Ok(Some((row, lora, pieces)))
                }
                .boxed()
            })
            .await?;
        let Some((row, lora, pieces)) = taken else {
            return Ok(None);
        };
        let work = match &row.remote_file {
            Some(text) => TransferWork::Remote(remote_file(text, row.of_lora)?),
            None => TransferWork::Pieces(PieceRow::into_pieces(pieces)?),
        };
        Ok(Some(ClaimedTransfer {
            token: claim.token,
            lora: lora.try_into()?,
            work,
            attempt: natural(row.attempt_number),
        }))
    }

    async fn report(
        &self,
        lora: LoraId,
        token: ClaimToken,
        bytes_done: u64,
        bytes_total: Option<u64>,
        lease: Duration,
    ) -> Result<bool, RepoError> {
        let statement = under(REPORT, lora, token)
            .bind::<BigInt, _>(large_integer(bytes_done))
            .bind::<Nullable<BigInt>, _>(bytes_total.map(large_integer))
            .bind::<Interval, _>(interval(lease));
        Ok(self.execute(statement).await? > 0)
    }

    async fn complete(
        &self,
        lora: LoraId,
        token: ClaimToken,
        received: ReceivedLora,
    ) -> Result<Option<Lora>, RepoError> {
        let name = under(NAME_CLAIMED, lora, token);
        let lock = under(LOCK_CLAIMED, lora, token);
        let end = Statement::new(END).bind::<SqlUuid, _>(lora.as_uuid());
        let row = self
            .store
            .transact(Role::Service, |mut connection| {
                async move {
                    let named: Option<NamedRow> =
                        name.get_result(&mut connection).await.optional()?;
                    let Some(named) = named else {
                        return Ok(None);
                    };
                    lock_filename(connection, named.user_id, &named.filename).await?;
                    let claimed: Option<IdRow> =
                        lock.get_result(&mut connection).await.optional()?;
                    if claimed.is_none() {
                        return Ok(None);
                    }
                    end.execute(&mut connection).await?;
                    make_ready(connection, lora, &named, received).await
                }
                .boxed()
            })
            .await?;
        row.map(Lora::try_from).transpose()
    }

    async fn fail(
        &self,
        lora: LoraId,
        token: ClaimToken,
        failure: LoraFailure,
    ) -> Result<(), RepoError> {
        self.execute(bind_failure(under(FAIL, lora, token), &failure))
            .await?;
        Ok(())
    }

    async fn postpone(
        &self,
        lora: LoraId,
        token: ClaimToken,
        pause: Duration,
    ) -> Result<(), RepoError> {
        let statement = under(POSTPONE, lora, token).bind::<Interval, _>(interval(pause));
        self.execute(statement).await?;
        Ok(())
    }
}
