//! The statements about LoRAs that read, and those that clean up.

use atelier_domain::actor::Actor;
use atelier_domain::ids::{RunId, UserId};
use atelier_domain::lora::{BaseModelFilter, LoraFilter, LoraHash, LoraStatus};
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{BlobOwner, LoraName};
use diesel::sql_types::{Array, BigInt, Bool, Int4, Nullable, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use crate::lora_rows::lora_columns;
use crate::page::{before, rows_to_fetch};
use crate::run_rows::{integer, storable};
use crate::statement::Statement;

/// Nothing was heard of the bytes for too long. Those that a worker is to bring come when it does.
macro_rules! abandoned {
    () => {
        "(lora.status in ('uploading', 'importing') and lora.deleted_at is null and lora.expires_at < now() \
          and not exists (select from public.comfyui_lora_transfers as coming where coming.lora_id = lora.id))"
    };
}
pub(crate) use abandoned;

pub(crate) const GET: &str = concat!(
    "select ",
    lora_columns!(),
    " from public.comfyui_lora_models as lora where lora.id = $1 and lora.deleted_at is null"
);

/// Several rows may have one path: the one that its filename stands for is found, else the newest.
const FIND_READY: &str = concat!(
    "select ",
    lora_columns!(),
    " from public.comfyui_lora_models as lora where lora.id in ( \
       select latest.id from public.comfyui_lora_models as latest \
       where latest.user_id = $1 and latest.filename = any ($2) and latest.deleted_at is null \
         and latest.superseded_at is null and latest.status = 'ready' \
       union all \
       select version.id from unnest($3, $4) as wanted (filename, version) \
       join public.comfyui_lora_models as version \
         on version.user_id = $1 and version.filename = wanted.filename and version.version = wanted.version \
         and version.deleted_at is null \
       union all \
       (select distinct on (there.comfyui_path) there.id from public.comfyui_lora_models as there \
        where there.user_id = $1 and there.comfyui_path = any ($5) and there.deleted_at is null \
        order by there.comfyui_path, there.superseded_at is null desc, there.created_at desc, there.id desc) \
     ) order by lora.id"
);

/// At least one row if the LoRA is there: one without a version if its filename has none.
pub(crate) const VERSIONS: &str = concat!(
    "select ",
    lora_columns!(),
    " from public.comfyui_lora_models as asked \
     join public.comfyui_lora_models as lora on lora.user_id = asked.user_id and lora.filename = asked.filename \
       and lora.deleted_at is null and (lora.version is not null or lora.id = asked.id) \
     where asked.id = $1 and asked.user_id = $2 and asked.deleted_at is null \
     order by lora.version desc"
);

const LIST: &str = concat!(
    "select ",
    lora_columns!(),
    " from public.comfyui_lora_models as lora \
     where lora.user_id = $1 and lora.deleted_at is null and lora.superseded_at is null \
     and (lora.created_at, lora.id) < ($2, $3) \
     and ($5 is null or lora.status = $5) \
     and ($6 is null or $6 = any (lora.tags)) \
     and ($7 is null or strpos(lower(lora.name), lower($7)) > 0 or strpos(lower(lora.filename), lower($7)) > 0 \
       or strpos(lower(lora.description), lower($7)) > 0) \
     and ($8 is null or lora.base_model = $8) and (not $9 or lora.base_model is null) \
     and ($10 is null or case char_length($10) when 10 then left(lora.sha256, 10) = $10 \
       when 12 then left(lora.tensors_sha256, 12) = $10 \
       else $10 in (lora.sha256, lora.blake3, lora.tensors_sha256) end) \
     order by lora.created_at desc, lora.id desc limit $4"
);

pub(crate) const LOAD: &str = concat!(
    "select ",
    lora_columns!(),
    " from public.comfyui_lora_models as lora where lora.id = any ($1)"
);

/// What was abandoned becomes failed in the same statement: its object goes next, so it must not become ready. An
/// upload in pieces fails as an upload instead. What a worker may be writing at this moment waits for the end of its
/// lease. A LoRA is needed by its owner's runs alone; each sort of them that is not over has an index.
pub(crate) const DUE_FOR_CLEANING: &str = concat!(
    "with due as ( \
       select lora.id from public.comfyui_lora_models as lora \
       where lora.blob_key is not null and (lora.deleted_at is not null \
         or (lora.status = 'failed' and lora.deleted_at is null) \
         or (",
    abandoned!(),
    " and not exists (select from public.comfyui_lora_uploads as upload where upload.lora_id = lora.id))) \
       and not exists (select from public.comfyui_lora_transfers as transfer \
         where transfer.lora_id = lora.id and transfer.lease_until > clock_timestamp()) \
       and not exists (select from public.comfyui_workflow_runs as run \
         where run.user_id = lora.user_id and run.status = 'pending' and run.lives_on is null \
           and lora.id = any (run.lora_ids)) \
       and not exists (select from public.comfyui_workflow_runs as run \
         where run.user_id = lora.user_id and run.status = 'pending' and run.lives_on is not null \
           and lora.id = any (run.lora_ids)) \
       and not exists (select from public.comfyui_workflow_runs as run \
         where run.user_id = lora.user_id and run.status = 'running' and lora.id = any (run.lora_ids)) \
       order by lora.created_at, lora.id limit $1 for no key update of lora skip locked \
     ) \
     update public.comfyui_lora_models as lora set \
       status = case when lora.status in ('uploading', 'importing') then 'failed' else lora.status end, \
       error_code = case when lora.status in ('uploading', 'importing') then 'abandoned' else lora.error_code end, \
       error_message = case when lora.status in ('uploading', 'importing') \
         then 'The bytes stopped coming; send the file again.' else lora.error_message end \
     from due where lora.id = due.id \
     returning ",
    lora_columns!()
);

/// Failed ones lose their object first, and their row when they are deleted.
pub(crate) const SWEEP: &str = "\
    delete from public.comfyui_lora_models where id in ( \
      select id from public.comfyui_lora_models where deleted_at is not null and blob_key is null \
      limit 1000 for update skip locked)";

pub(crate) const FORGET_DELETED: &str =
    "delete from public.comfyui_lora_models where id = $1 and deleted_at is not null";

pub(crate) const FORGET_OBJECT: &str = "\
    update public.comfyui_lora_models set blob_key = null where id = $1 and status = 'failed'";

/// Two branches, each over an index of its own.
pub(crate) const PATHS_IN_USE: &str = "\
    select distinct lora.comfyui_path as path from ( \
      select unnest(run.lora_ids) as lora_id from public.comfyui_workflow_runs as run where run.status = 'running' \
      union \
      select unnest(run.lora_ids) from public.comfyui_workflow_runs as run \
      where run.status = 'pending' and run.lives_on is not null \
    ) as needed join public.comfyui_lora_models as lora on lora.id = needed.lora_id \
    where lora.comfyui_path is not null";

pub(crate) const CONTENTS_AT: &str = "\
    select known.comfyui_path as path, known.sha256, \
      exists (select from public.comfyui_lora_models as lora \
        where lora.comfyui_path = known.comfyui_path and lora.deleted_at is null) as is_alive \
    from public.comfyui_lora_paths as known where known.comfyui_path = any ($1)";

const KNOWN_OWNERS: &str = "\
    select 'lora' as kind, lora.blob_key as key, null::uuid as id, null::uuid as person \
      from public.comfyui_lora_models as lora where lora.blob_key = any ($1) \
    union all \
    select 'upload', null, upload.lora_id, null \
      from public.comfyui_lora_uploads as upload where upload.lora_id = any ($2) \
    union all \
    select 'run', null, run.id, run.user_id from public.comfyui_workflow_runs as run where run.id = any ($3) \
    union all \
    select 'input', input.blob_key, null, null from public.comfyui_inputs as input where input.blob_key = any ($4)";

pub(crate) const INSTALLATION: &str = "select id from public.comfyui_installation";

pub(crate) fn find_statement(actor: &Actor, names: Vec<LoraName>) -> Statement {
    let mut latest = Vec::new();
    let (mut filenames, mut versions) = (Vec::new(), Vec::new());
    let mut paths = Vec::new();
    for name in names {
        match name {
            LoraName::Latest(filename) => latest.push(filename.as_str().to_owned()),
            LoraName::Version(filename, version) => {
                filenames.push(filename.as_str().to_owned());
                versions.push(integer(version.number()));
            }
            LoraName::At(path) => paths.push(path.to_string()),
        }
    }
    Statement::new(FIND_READY)
        .bind::<SqlUuid, _>(actor.user_id().as_uuid())
        .bind::<Array<Text>, _>(latest)
        .bind::<Array<Text>, _>(filenames)
        .bind::<Array<Int4>, _>(versions)
        .bind::<Array<Text>, _>(paths)
}

pub(crate) fn list_statement(actor: &Actor, filter: &LoraFilter, page: &PageRequest) -> Statement {
    let (created_at, id) = before(page);
    let family = filter.base_model.and_then(|wanted| match wanted {
        BaseModelFilter::Family(family) => Some(family.as_str()),
        BaseModelFilter::Unknown => None,
    });
    Statement::new(LIST)
        .bind::<SqlUuid, _>(actor.user_id().as_uuid())
        .bind::<Timestamptz, _>(created_at)
        .bind::<SqlUuid, _>(id)
        .bind::<BigInt, _>(rows_to_fetch(page))
        .bind::<Nullable<Text>, _>(filter.status.map(LoraStatus::as_str))
        .bind::<Nullable<Text>, _>(filter.tag.as_deref().map(storable))
        .bind::<Nullable<Text>, _>(filter.text.as_deref().map(storable))
        .bind::<Nullable<Text>, _>(family)
        .bind::<Bool, _>(filter.base_model == Some(BaseModelFilter::Unknown))
        .bind::<Nullable<Text>, _>(
            filter
                .hash
                .as_ref()
                .map(|hash| LoraHash::as_str(hash).to_owned()),
        )
}

pub(crate) fn owners_statement(owners: &[BlobOwner]) -> Statement {
    let (mut keys, mut inputs) = (Vec::new(), Vec::new());
    let (mut uploads, mut runs): (Vec<Uuid>, Vec<Uuid>) = (Vec::new(), Vec::new());
    for owner in owners {
        match owner {
            BlobOwner::Lora(key) => keys.push(key.as_str().to_owned()),
            BlobOwner::Upload(id) => uploads.push(id.as_uuid()),
            BlobOwner::Run(_, run) => runs.push(run.as_uuid()),
            BlobOwner::Input(key) => inputs.push(key.as_str().to_owned()),
        }
    }
    Statement::new(KNOWN_OWNERS)
        .bind::<Array<Text>, _>(keys)
        .bind::<Array<SqlUuid>, _>(uploads)
        .bind::<Array<SqlUuid>, _>(runs)
        .bind::<Array<Text>, _>(inputs)
}

/// A run's owner as [`KNOWN_OWNERS`] tells it.
pub(crate) fn run_owner(person: Uuid, run: Uuid) -> BlobOwner {
    BlobOwner::Run(UserId::new(person), RunId::new(run))
}
