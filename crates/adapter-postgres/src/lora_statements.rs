//! The statements about LoRAs that are written by hand.

use atelier_domain::actor::Actor;
use atelier_domain::ids::{LoraId, UserId};
use atelier_domain::lora::{LoraFilename, LoraPath, LoraSource, LoraStatus, NewLora, ReceivedLora};
use atelier_domain::ports::RepoError;
use diesel::sql_types::{Array, BigInt, Json, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use serde_json::Value;

use crate::json_text::JsonText;
use crate::lora_rows::{first_key, own_key, stored_bytes};
use crate::run_rows::storable;
use crate::statement::Statement;

/// What `LoraRow` reads.
macro_rules! lora_columns {
    () => {
        "id, user_id, name, filename, description, tags, status, google_drive_file_id, bytes_done, bytes_total, \
         file_size, sha256, comfyui_path, base_model, trigger_words, metadata, error_code, error_message, blob_key, \
         created_at"
    };
}

/// Bytes of an upload come without a pause, and an import records its progress; an hour without a sign is the end.
macro_rules! abandoned {
    () => {
        "(status in ('uploading', 'importing') and touched_at < now() - interval '1 hour')"
    };
}

pub(crate) const GIVE_WAY: &str = concat!(
    "update public.comfyui_lora_models set deleted_at = now() \
     where user_id = $1 and filename = $2 and deleted_at is null and (status = 'failed' or ",
    abandoned!(),
    ")"
);

/// Takes the plain key unless a row has it, and then one that holds the LoRA's id.
pub(crate) const RESERVE: &str = concat!(
    "insert into public.comfyui_lora_models \
       (id, user_id, name, filename, description, tags, status, source, google_drive_file_id, bytes_total, \
        created_at, blob_key) \
     values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, \
       case when exists (select from public.comfyui_lora_models as other where other.blob_key = $12) \
         then $13 else $12 end) \
     returning ",
    lora_columns!()
);

pub(crate) const MARK_READY: &str = concat!(
    "update public.comfyui_lora_models set \
       status = 'ready', comfyui_path = atelier.take_lora_path(user_id, $3, $4), sha256 = $4, file_size = $5, \
       bytes_done = $5, bytes_total = $5, name = $6, description = $7, tags = $8, base_model = $9, \
       trigger_words = $10, metadata = $11, touched_at = now() \
     where id = $1 and user_id = $2 and deleted_at is null and status in ('uploading', 'importing') \
     returning ",
    lora_columns!()
);

pub(crate) const LIST: &str = concat!(
    "select ",
    lora_columns!(),
    " from public.comfyui_lora_models \
     where user_id = $1 and deleted_at is null and (created_at, id) < ($2, $3) \
     and ($5 is null or status = $5) \
     and ($6 is null or $6 = any (tags)) \
     and ($7 is null or strpos(lower(name), lower($7)) > 0 or strpos(lower(filename), lower($7)) > 0 \
       or strpos(lower(description), lower($7)) > 0) \
     order by created_at desc, id desc limit $4"
);

/// What was abandoned becomes failed in the same statement: its object goes next, so it must not become ready.
/// A LoRA is needed by its owner's runs alone.
pub(crate) const DUE_FOR_CLEANING: &str = concat!(
    "with due as ( \
       select id from public.comfyui_lora_models as lora \
       where blob_key is not null and (deleted_at is not null or status = 'failed' or ",
    abandoned!(),
    ") \
       and not exists (select from public.comfyui_workflow_runs as run \
         where run.user_id = lora.user_id and run.status = 'pending' and lora.id = any (run.lora_ids)) \
       and not exists (select from public.comfyui_workflow_runs as run \
         where run.user_id = lora.user_id and run.status = 'running' and lora.id = any (run.lora_ids)) \
       order by created_at, id limit $1 for no key update skip locked \
     ) \
     update public.comfyui_lora_models as lora set \
       status = case when lora.status in ('uploading', 'importing') then 'failed' else lora.status end, \
       error_code = case when lora.status in ('uploading', 'importing') then 'abandoned' else lora.error_code end, \
       error_message = case when lora.status in ('uploading', 'importing') \
         then 'The bytes stopped coming; send the file again.' else lora.error_message end \
     from due where lora.id = due.id \
     returning ",
    "lora.id, lora.user_id, lora.name, lora.filename, lora.description, lora.tags, lora.status, \
     lora.google_drive_file_id, lora.bytes_done, lora.bytes_total, lora.file_size, lora.sha256, lora.comfyui_path, \
     lora.base_model, lora.trigger_words, lora.metadata, lora.error_code, lora.error_message, lora.blob_key, \
     lora.created_at"
);

pub(crate) fn reserve_statement(actor: &Actor, new: NewLora) -> Result<Statement, RepoError> {
    let owner = actor.user_id();
    let plain_key = first_key(owner, &new.filename)?;
    let own_key = own_key(owner, &new)?;
    let (status, source, file_id) = match new.source {
        LoraSource::Upload => (LoraStatus::Uploading, "upload", None),
        LoraSource::GoogleDrive { file_id } => {
            (LoraStatus::Importing, "google_drive", Some(file_id))
        }
    };
    Ok(Statement::new(RESERVE)
        .bind::<SqlUuid, _>(new.id.as_uuid())
        .bind::<SqlUuid, _>(owner.as_uuid())
        .bind::<Text, _>(new.name.as_str().to_owned())
        .bind::<Text, _>(new.filename.as_str().to_owned())
        .bind::<Nullable<Text>, _>(new.description.map(|text| text.as_str().to_owned()))
        .bind::<Array<Text>, _>(new.tags.into_vec())
        .bind::<Text, _>(status.as_str())
        .bind::<Text, _>(source)
        .bind::<Nullable<Text>, _>(file_id)
        .bind::<Nullable<BigInt>, _>(new.bytes_total.map(stored_bytes))
        .bind::<Timestamptz, _>(new.created_at)
        .bind::<Text, _>(plain_key.as_str().to_owned())
        .bind::<Text, _>(own_key.as_str().to_owned()))
}

pub(crate) fn ready_statement(
    owner: UserId,
    id: LoraId,
    filename: &str,
    received: ReceivedLora,
) -> diesel::QueryResult<Statement> {
    let filename = LoraFilename::parse(filename)
        .map_err(|error| diesel::result::Error::DeserializationError(Box::new(error)))?;
    // The last one is nobody else's: it is for contents whose versioned name is another file's first one.
    let paths = vec![
        LoraPath::first(owner, &filename).to_string(),
        LoraPath::versioned(owner, &filename, &received.sha256).to_string(),
        format!("user-{owner}/{id}.safetensors"),
    ];
    let trigger_words: Vec<String> = received
        .facts
        .trigger_words
        .iter()
        .map(|word| storable(word))
        .collect();
    Ok(Statement::new(MARK_READY)
        .bind::<SqlUuid, _>(id.as_uuid())
        .bind::<SqlUuid, _>(owner.as_uuid())
        .bind::<Array<Text>, _>(paths)
        .bind::<Text, _>(received.sha256.to_string())
        .bind::<BigInt, _>(stored_bytes(received.file_size))
        .bind::<Text, _>(received.name.as_str().to_owned())
        .bind::<Nullable<Text>, _>(received.description.map(|text| text.as_str().to_owned()))
        .bind::<Array<Text>, _>(received.tags.into_vec())
        .bind::<Nullable<Text>, _>(received.facts.base_model.as_deref().map(storable))
        .bind::<Array<Text>, _>(trigger_words)
        .bind::<Json, _>(JsonText::of(&Value::Object(received.facts.metadata))))
}
