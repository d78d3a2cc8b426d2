//! How LoRAs come into the library and become ready: what their owners' requests and the workers' transfers share.
//!
//! Whoever reserves a place, makes a LoRA ready or deletes it does so alone for that person and filename; and whoever
//! locks a LoRA and what belongs to it locks the LoRA first. So none of them waits for another for ever.

use atelier_domain::actor::Actor;
use atelier_domain::ids::{LoraId, UserId};
use atelier_domain::lora::{
    LoraFailure, LoraFilename, LoraPath, LoraSource, LoraStatus, NewLora, ReceivedLora,
};
use atelier_domain::ports::BlobKey;
use chrono::{DateTime, Utc};
use diesel::prelude::OptionalExtension;
use diesel::sql_types::{
    Array, BigInt, Bool, Int4, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid,
};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde_json::Value;

use crate::json_text::JsonText;
use crate::lora_rows::{LoraRow, lora_columns};
use crate::lora_statements::abandoned;
use crate::run_rows::{integer, large_integer, storable};
use crate::statement::Statement;

/// Not one statement with what comes after it: that would not see what the one before it did.
const LOCK_FILENAME: &str = "\
    select pg_advisory_xact_lock(hashtextextended(jsonb_build_array('atelier.lora', $1, $2)::text, 0))";

/// Whether another LoRA stands in the way of one that replaces nothing.
const IN_THE_WAY: &str = concat!(
    "select exists (select from public.comfyui_lora_models as lora \
     where lora.user_id = $1 and lora.filename = $2 and lora.deleted_at is null and lora.superseded_at is null \
     and lora.status <> 'failed' and not ",
    abandoned!(),
    ") as is_there"
);

const GIVE_WAY: &str = concat!(
    "update public.comfyui_lora_models as lora set deleted_at = now() \
     where lora.user_id = $1 and lora.filename = $2 and lora.deleted_at is null and (lora.status = 'failed' or ",
    abandoned!(),
    ")"
);

/// Takes the plain key unless a row has it, and then one that holds the LoRA's id.
const RESERVE: &str = concat!(
    "insert into public.comfyui_lora_models as lora \
       (id, user_id, name, filename, description, tags, status, source, google_drive_file_id, source_url, \
        bytes_total, replaces, created_at, expires_at, blob_key) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, coalesce($14, now() + interval '1 hour'), \
       case when exists (select from public.comfyui_lora_models as other where other.blob_key = $15) \
         then $16 else $15 end) \
     returning ",
    lora_columns!()
);

/// Who holds the filename leaves it: a ready one as an earlier version, one on its way to take its turn.
const SUPERSEDE: &str = "\
    update public.comfyui_lora_models as other set \
      superseded_at = case when other.status = 'ready' then now() end, \
      replaces = other.replaces or other.status <> 'ready' \
    where other.user_id = $1 and other.filename = $2 and other.id <> $3 \
    and other.deleted_at is null and other.superseded_at is null and (other.status = 'ready' or not other.replaces)";

const MARK_READY: &str = concat!(
    "update public.comfyui_lora_models as lora set \
       status = 'ready', comfyui_path = atelier.take_lora_path(lora.user_id, $2, $3), sha256 = $3, blake3 = $4, \
       tensors_sha256 = $5, file_size = $6, bytes_done = $6, bytes_total = $6, name = $7, description = $8, \
       tags = $9, base_model = $10, base_model_confidence = $11, base_model_evidence = $12, title = $13, \
       network_rank = $14, network_type = $15, trigger_words = $16, metadata = $17, touched_at = now(), \
       version = (select coalesce(max(other.version), 0) + 1 from public.comfyui_lora_models as other \
         where other.user_id = lora.user_id and other.filename = lora.filename and other.deleted_at is null) \
     where lora.id = $1 \
     returning ",
    lora_columns!()
);

/// What a method does to a LoRA that is on its way, of the one that it was given.
#[derive(QueryableByName)]
pub(crate) struct NamedRow {
    #[diesel(sql_type = SqlUuid)]
    pub(crate) user_id: uuid::Uuid,
    #[diesel(sql_type = Text)]
    pub(crate) filename: String,
}

#[derive(QueryableByName)]
struct ThereRow {
    #[diesel(sql_type = Bool)]
    is_there: bool,
}

/// A place that is to be reserved.
pub(crate) struct Reservation {
    owner: UserId,
    filename: String,
    replaces: bool,
    insert: Statement,
}

impl Reservation {
    /// Bytes are waited for until `expires_at`; an hour if that is `None`.
    pub(crate) fn new(actor: &Actor, new: NewLora, expires_at: Option<DateTime<Utc>>) -> Self {
        let owner = actor.user_id();
        let plain_key = BlobKey::of_lora(owner, &new.filename);
        let own_key = BlobKey::of_lora_alone(owner, new.id, &new.filename);
        let (status, source, file_id, url) = match new.source {
            LoraSource::Upload => (LoraStatus::Uploading, "upload", None, None),
            LoraSource::GoogleDrive { file_id } => {
                (LoraStatus::Importing, "google_drive", Some(file_id), None)
            }
            LoraSource::Url { url } => (LoraStatus::Importing, "url", None, Some(url)),
        };
        let filename = new.filename.as_str().to_owned();
        let insert = Statement::new(RESERVE)
            .bind::<SqlUuid, _>(new.id.as_uuid())
            .bind::<SqlUuid, _>(owner.as_uuid())
            .bind::<Text, _>(new.name.as_str().to_owned())
            .bind::<Text, _>(filename.clone())
            .bind::<Nullable<Text>, _>(new.description.map(|text| text.as_str().to_owned()))
            .bind::<Array<Text>, _>(new.tags.into_vec())
            .bind::<Text, _>(status.as_str())
            .bind::<Text, _>(source)
            .bind::<Nullable<Text>, _>(file_id.as_deref().map(storable))
            .bind::<Nullable<Text>, _>(url.as_deref().map(storable))
            .bind::<Nullable<BigInt>, _>(new.bytes_total.map(large_integer))
            .bind::<Bool, _>(new.replaces)
            .bind::<Timestamptz, _>(new.created_at)
            .bind::<Nullable<Timestamptz>, _>(expires_at)
            .bind::<Text, _>(plain_key.as_str().to_owned())
            .bind::<Text, _>(own_key.as_str().to_owned());
        Self {
            owner,
            filename,
            replaces: new.replaces,
            insert,
        }
    }

    /// Reserves the place; `None` if another LoRA of that filename is there.
    pub(crate) async fn carry_out(
        self,
        mut connection: &AsyncPgConnection,
    ) -> QueryResult<Option<LoraRow>> {
        let about = |sql| {
            Statement::new(sql)
                .bind::<SqlUuid, _>(self.owner.as_uuid())
                .bind::<Text, _>(self.filename.clone())
        };
        lock_filename(connection, self.owner.as_uuid(), &self.filename).await?;
        if !self.replaces {
            let ThereRow { is_there } = about(IN_THE_WAY).get_result(&mut connection).await?;
            if is_there {
                return Ok(None);
            }
        }
        about(GIVE_WAY).execute(&mut connection).await?;
        self.insert.get_result(&mut connection).await.map(Some)
    }
}

/// Keeps everybody else from reserving, making ready and deleting LoRAs of that filename, until the transaction ends.
pub(crate) async fn lock_filename(
    mut connection: &AsyncPgConnection,
    owner: uuid::Uuid,
    filename: &str,
) -> QueryResult<()> {
    Statement::new(LOCK_FILENAME)
        .bind::<SqlUuid, _>(owner)
        .bind::<Text, _>(filename.to_owned())
        .execute(&mut connection)
        .await?;
    Ok(())
}

/// Makes a LoRA ready. Its filename is locked, and itself, as one whose bytes are on their way.
pub(crate) async fn make_ready(
    mut connection: &AsyncPgConnection,
    id: LoraId,
    named: &NamedRow,
    received: ReceivedLora,
) -> QueryResult<Option<LoraRow>> {
    Statement::new(SUPERSEDE)
        .bind::<SqlUuid, _>(named.user_id)
        .bind::<Text, _>(named.filename.clone())
        .bind::<SqlUuid, _>(id.as_uuid())
        .execute(&mut connection)
        .await?;
    ready_statement(id, named, received)?
        .get_result(&mut connection)
        .await
        .optional()
}

fn ready_statement(id: LoraId, named: &NamedRow, received: ReceivedLora) -> QueryResult<Statement> {
    let owner = UserId::new(named.user_id);
    let filename = LoraFilename::parse(&named.filename)
        .map_err(|error| diesel::result::Error::DeserializationError(Box::new(error)))?;
    let hashes = received.hashes;
    // The last one is nobody else's: it is for contents whose versioned name is another file's first one.
    let paths = vec![
        LoraPath::first(owner, &filename).to_string(),
        LoraPath::versioned(owner, &filename, &hashes.sha256).to_string(),
        format!("user-{owner}/{id}.safetensors"),
    ];
    let facts = received.facts;
    let trigger_words: Vec<String> = facts
        .trigger_words
        .iter()
        .map(|word| storable(word))
        .collect();
    let base_model = facts.base_model.as_ref();
    Ok(Statement::new(MARK_READY)
        .bind::<SqlUuid, _>(id.as_uuid())
        .bind::<Array<Text>, _>(paths)
        .bind::<Text, _>(hashes.sha256.to_string())
        .bind::<Nullable<Text>, _>(hashes.blake3.map(|digest| digest.to_string()))
        .bind::<Nullable<Text>, _>(hashes.tensors_sha256.map(|digest| digest.to_string()))
        .bind::<BigInt, _>(large_integer(received.file_size))
        .bind::<Text, _>(received.name.as_str().to_owned())
        .bind::<Nullable<Text>, _>(received.description.map(|text| text.as_str().to_owned()))
        .bind::<Array<Text>, _>(received.tags.into_vec())
        .bind::<Nullable<Text>, _>(base_model.map(|model| model.family.as_str()))
        .bind::<Nullable<Text>, _>(base_model.map(|model| model.confidence.as_str()))
        .bind::<Nullable<Text>, _>(base_model.map(|model| storable(&model.evidence)))
        .bind::<Nullable<Text>, _>(facts.title.as_deref().map(storable))
        .bind::<Nullable<Int4>, _>(facts.rank.map(integer))
        .bind::<Nullable<Text>, _>(facts.network_type.as_deref().map(storable))
        .bind::<Array<Text>, _>(trigger_words)
        .bind::<Json, _>(JsonText::of(&Value::Object(facts.metadata))))
}

/// Adds a failure's code and message.
pub(crate) fn bind_failure(statement: Statement, failure: &LoraFailure) -> Statement {
    statement
        .bind::<Text, _>(storable(&failure.code))
        .bind::<Text, _>(storable(&failure.message))
}
