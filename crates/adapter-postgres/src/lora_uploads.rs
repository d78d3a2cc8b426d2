//! Uploads of LoRAs in pieces.

use async_trait::async_trait;
use atelier_domain::actor::Actor;
use atelier_domain::ids::LoraId;
use atelier_domain::lora::{Lora, LoraFailure, LoraStatus, NewLora};
use atelier_domain::ports::{
    AppendOutcome, BlobKey, Conflict, FinishedUpload, LoraUploads, RepoError, ResumableUpload,
    UploadPiece,
};
use chrono::{DateTime, Utc};
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{Array, BigInt, Bool, Int4, Text, Timestamptz, Uuid as SqlUuid};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use futures_util::FutureExt;
use uuid::Uuid;

use crate::error::inconsistent;
use crate::lora_statements::abandoned;
use crate::lora_writes::{Reservation, bind_failure};
use crate::queue_rows::IdRow;
use crate::run_rows::{large_integer, large_natural, natural, storable};
use crate::statement::Statement;
use crate::store::PgStore;
use crate::transaction::Role;

/// Implements [`LoraUploads`].
#[derive(Clone, Debug)]
pub struct PgLoraUploads {
    store: PgStore,
}

const CREATE: &str = "\
    insert into public.comfyui_lora_uploads (lora_id, user_id, length, metadata) values ($1, $2, $3, $4)";

const GET: &str = "\
    select upload.length, upload.bytes_done, upload.metadata, lora.expires_at, lora.status \
    from public.comfyui_lora_uploads as upload \
    join public.comfyui_lora_models as lora on lora.id = upload.lora_id \
    where upload.lora_id = $1 and upload.user_id = $2 and lora.deleted_at is null";

/// In the order of their bytes.
pub(crate) const PIECES: &str = "\
    select piece.lora_id, piece.starts_at, piece.size_bytes, piece.blob_key \
    from public.comfyui_lora_upload_pieces as piece where piece.lora_id = $1 order by piece.starts_at";

/// The LoRA first, as whoever deletes it does.
const LOCK_LORA: &str = "\
    select lora.id from public.comfyui_lora_models as lora \
    where lora.id = $1 and lora.user_id = $2 and lora.deleted_at is null and lora.status = 'uploading' \
    for no key update";

const LOCK_UPLOAD: &str = "\
    select upload.length, upload.bytes_done, upload.piece_count from public.comfyui_lora_uploads as upload \
    where upload.lora_id = $1 and upload.user_id = $2 for no key update";

/// With the last piece (`$7`) the transfer begins; a trigger wakes the workers.
const APPEND: &str = "\
    with piece as ( \
      insert into public.comfyui_lora_upload_pieces (lora_id, user_id, starts_at, size_bytes, blob_key) \
      values ($1, $2, $3, $4, $5) \
    ), whole as ( \
      insert into public.comfyui_lora_transfers (lora_id, user_id) select $1, $2 where $7 \
    ), upload as ( \
      update public.comfyui_lora_uploads set bytes_done = $6, piece_count = piece_count + 1 where lora_id = $1 \
    ) \
    update public.comfyui_lora_models set bytes_done = $6, expires_at = $8, touched_at = now() where id = $1";

const EXPIRE: &str = concat!(
    "update public.comfyui_lora_models as expired set status = 'failed', error_code = $2, error_message = $3 \
     from ( \
       select lora.id from public.comfyui_lora_uploads as upload \
       join public.comfyui_lora_models as lora on lora.id = upload.lora_id where ",
    abandoned!(),
    " order by lora.expires_at limit $1 for no key update of lora skip locked \
     ) as late where expired.id = late.id"
);

const FINISHED: &str = "\
    select upload.lora_id, array( \
      select piece.blob_key from public.comfyui_lora_upload_pieces as piece \
      where piece.lora_id = upload.lora_id order by piece.starts_at \
    ) as pieces \
    from public.comfyui_lora_uploads as upload \
    left join public.comfyui_lora_models as lora on lora.id = upload.lora_id \
    where lora.id is null or lora.deleted_at is not null or lora.status in ('ready', 'failed') \
    order by upload.created_at, upload.lora_id limit $1";

const FORGET: &str = "\
    delete from public.comfyui_lora_uploads as upload where upload.lora_id = $1 and not exists ( \
      select from public.comfyui_lora_models as lora \
      where lora.id = $1 and lora.deleted_at is null and lora.status in ('uploading', 'importing'))";

#[derive(QueryableByName)]
struct UploadRow {
    #[diesel(sql_type = BigInt)]
    length: i64,
    #[diesel(sql_type = BigInt)]
    bytes_done: i64,
    #[diesel(sql_type = Text)]
    metadata: String,
    #[diesel(sql_type = Timestamptz)]
    expires_at: DateTime<Utc>,
    #[diesel(sql_type = Text)]
    status: String,
}

#[derive(QueryableByName)]
struct LockedRow {
    #[diesel(sql_type = BigInt)]
    length: i64,
    #[diesel(sql_type = BigInt)]
    bytes_done: i64,
    #[diesel(sql_type = Int4)]
    piece_count: i32,
}

/// A piece of an upload.
#[derive(QueryableByName)]
pub(crate) struct PieceRow {
    #[diesel(sql_type = SqlUuid)]
    lora_id: Uuid,
    #[diesel(sql_type = BigInt)]
    starts_at: i64,
    #[diesel(sql_type = BigInt)]
    size_bytes: i64,
    #[diesel(sql_type = Text)]
    blob_key: String,
}

impl PieceRow {
    pub(crate) fn into_pieces(rows: Vec<Self>) -> Result<Vec<UploadPiece>, RepoError> {
        rows.into_iter()
            .map(|row| {
                Ok(UploadPiece {
                    starts_at: large_natural(row.starts_at),
                    size_bytes: large_natural(row.size_bytes),
                    blob_key: key(row.blob_key, row.lora_id)?,
                })
            })
            .collect()
    }
}

#[derive(QueryableByName)]
struct FinishedRow {
    #[diesel(sql_type = SqlUuid)]
    lora_id: Uuid,
    #[diesel(sql_type = Array<Text>)]
    pieces: Vec<String>,
}

fn key(text: String, upload: Uuid) -> Result<BlobKey, RepoError> {
    BlobKey::parse(text)
        .map_err(|_broken| inconsistent("comfyui_lora_upload_pieces", "blob_key", upload))
}

/// What a transaction that was to add a piece came to.
enum Appending {
    Outcome(AppendOutcome),
    /// The piece is empty or too long: a defect of whoever cut it.
    Unfit,
}

/// A piece that is to be added.
struct Append {
    upload: LoraId,
    owner: Uuid,
    piece: UploadPiece,
    max_pieces: u32,
    expires_at: DateTime<Utc>,
}

impl Append {
    fn about(&self, sql: &'static str) -> Statement {
        Statement::new(sql)
            .bind::<SqlUuid, _>(self.upload.as_uuid())
            .bind::<SqlUuid, _>(self.owner)
    }

    async fn carry_out(self, mut connection: &AsyncPgConnection) -> QueryResult<Appending> {
        let lora: Option<IdRow> = self
            .about(LOCK_LORA)
            .get_result(&mut connection)
            .await
            .optional()?;
        let upload: Option<LockedRow> = self
            .about(LOCK_UPLOAD)
            .get_result(&mut connection)
            .await
            .optional()?;
        let (Some(_), Some(upload)) = (lora, upload) else {
            return Ok(Appending::Outcome(AppendOutcome::Gone));
        };
        let (begun, length) = (
            large_natural(upload.bytes_done),
            large_natural(upload.length),
        );
        if self.piece.starts_at != begun {
            let elsewhere = AppendOutcome::Elsewhere { offset: begun };
            return Ok(Appending::Outcome(elsewhere));
        }
        if natural(upload.piece_count) >= self.max_pieces {
            return Ok(Appending::Outcome(AppendOutcome::TooManyPieces));
        }
        let offset = begun.saturating_add(self.piece.size_bytes);
        if self.piece.size_bytes == 0 || offset > length {
            return Ok(Appending::Unfit);
        }
        let is_complete = offset == length;
        self.about(APPEND)
            .bind::<BigInt, _>(large_integer(self.piece.starts_at))
            .bind::<BigInt, _>(large_integer(self.piece.size_bytes))
            .bind::<Text, _>(self.piece.blob_key.as_str().to_owned())
            .bind::<BigInt, _>(large_integer(offset))
            .bind::<Bool, _>(is_complete)
            .bind::<Timestamptz, _>(self.expires_at)
            .execute(&mut connection)
            .await?;
        Ok(Appending::Outcome(AppendOutcome::Appended {
            offset,
            is_complete,
        }))
    }
}

impl PgLoraUploads {
    pub(crate) fn new(store: PgStore) -> Self {
        Self { store }
    }
}

#[async_trait]
impl LoraUploads for PgLoraUploads {
    async fn create(
        &self,
        actor: &Actor,
        new: NewLora,
        metadata: String,
        expires_at: DateTime<Utc>,
    ) -> Result<ResumableUpload, RepoError> {
        let Some(length) = new.bytes_total else {
            return Err(RepoError::Backend(
                "an upload in pieces needs to know its length".into(),
            ));
        };
        let metadata = storable(&metadata);
        let create = Statement::new(CREATE)
            .bind::<SqlUuid, _>(new.id.as_uuid())
            .bind::<SqlUuid, _>(actor.user_id().as_uuid())
            .bind::<BigInt, _>(large_integer(length))
            .bind::<Text, _>(metadata.clone());
        let reservation = Reservation::new(actor, new, Some(expires_at));
        let row = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move {
                    let row = reservation.carry_out(connection).await?;
                    if row.is_some() {
                        create.execute(&mut connection).await?;
                    }
                    Ok(row)
                }
                .boxed()
            })
            .await?;
        let lora: Lora = row
            .ok_or(RepoError::Conflict(Conflict::LoraFilename))?
            .try_into()?;
        Ok(ResumableUpload {
            lora_id: lora.id,
            length,
            offset: 0,
            metadata,
            expires_at,
            status: lora.status,
        })
    }

    async fn get(&self, actor: &Actor, id: LoraId) -> Result<Option<ResumableUpload>, RepoError> {
        let statement = Statement::new(GET)
            .bind::<SqlUuid, _>(id.as_uuid())
            .bind::<SqlUuid, _>(actor.user_id().as_uuid());
        let row: Option<UploadRow> = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move { statement.get_result(&mut connection).await.optional() }.boxed()
            })
            .await?;
        row.map(|row| {
            Ok(ResumableUpload {
                lora_id: id,
                length: large_natural(row.length),
                offset: large_natural(row.bytes_done),
                metadata: row.metadata,
                expires_at: row.expires_at,
                status: LoraStatus::parse(&row.status)
                    .ok_or_else(|| inconsistent("comfyui_lora_models", "status", id))?,
            })
        })
        .transpose()
    }

    async fn pieces(&self, actor: &Actor, id: LoraId) -> Result<Vec<UploadPiece>, RepoError> {
        let statement = Statement::new(PIECES).bind::<SqlUuid, _>(id.as_uuid());
        let rows = self
            .store
            .transact(Role::Writer(actor), |mut connection| {
                async move { statement.load(&mut connection).await }.boxed()
            })
            .await?;
        PieceRow::into_pieces(rows)
    }

    async fn append(
        &self,
        actor: &Actor,
        id: LoraId,
        piece: UploadPiece,
        max_pieces: u32,
        expires_at: DateTime<Utc>,
    ) -> Result<AppendOutcome, RepoError> {
        let append = Append {
            upload: id,
            owner: actor.user_id().as_uuid(),
            piece,
            max_pieces,
            expires_at,
        };
        let appending = self
            .store
            .transact(Role::Writer(actor), |connection| {
                append.carry_out(connection).boxed()
            })
            .await?;
        match appending {
            Appending::Outcome(outcome) => Ok(outcome),
            Appending::Unfit => Err(RepoError::Backend(
                "a piece is empty, or goes beyond the end of its upload".into(),
            )),
        }
    }

    async fn finished(&self, limit: u16) -> Result<Vec<FinishedUpload>, RepoError> {
        let about = |sql| Statement::new(sql).bind::<BigInt, _>(i64::from(limit));
        let late = LoraFailure {
            code: "upload_expired".to_owned(),
            message: "The upload was not continued in time; send the file again.".to_owned(),
        };
        let expire = bind_failure(about(EXPIRE), &late);
        let finished = about(FINISHED);
        let rows: Vec<FinishedRow> = self
            .store
            .transact(Role::Service, |mut connection| {
                async move {
                    expire.execute(&mut connection).await?;
                    finished.load(&mut connection).await
                }
                .boxed()
            })
            .await?;
        rows.into_iter()
            .map(|row| {
                let pieces = row.pieces.into_iter().map(|text| key(text, row.lora_id));
                Ok(FinishedUpload {
                    lora_id: row.lora_id.into(),
                    pieces: pieces.collect::<Result<_, RepoError>>()?,
                })
            })
            .collect()
    }

    async fn forget(&self, id: LoraId) -> Result<(), RepoError> {
        let statement = Statement::new(FORGET).bind::<SqlUuid, _>(id.as_uuid());
        self.store
            .transact(Role::Service, |mut connection| {
                async move { statement.execute(&mut connection).await }.boxed()
            })
            .await?;
        Ok(())
    }
}
