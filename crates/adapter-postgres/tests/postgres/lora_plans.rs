//! What is asked of LoRAs often is answered from indexes, however many there are.

use atelier_domain::actor::Actor;
use atelier_domain::lora::{BaseModelFilter, LoraFilename, LoraFilter, LoraPath, LoraVersion};
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{
    BlobKey, BlobOwner, LoraCopies, LoraName, LoraRepo, LoraTransfers, LoraUploads,
};
use atelier_postgres::PgStore;
use atelier_testkit::build::a_transfer_claim;
use atelier_testkit::{PATIENCE, wait_until};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::support::{Database, Kind, scalar};

const OWNER: Uuid = Uuid::from_u128(1);

/// 20 000 rows of ten people, four versions of each filename; some are on their way, failed, or deleted. 2 000 imports
/// wait, as many copies are asked for.
async fn fill(admin: &Client) {
    admin
        .batch_execute(
            "insert into public.comfyui_users (id)
               select lpad(to_hex(n), 32, '0')::uuid from generate_series(1, 10) as n;
             create function pg_temp.owner(n int) returns uuid language sql as
               $$ select lpad(to_hex(n % 10 + 1), 32, '0')::uuid $$;
             insert into public.comfyui_lora_models (id, user_id, name, filename, status, source, file_size, sha256,
                 comfyui_path, blob_key, version, superseded_at, created_at)
               select gen_random_uuid(), pg_temp.owner(n), 'lora', 'f' || n || '.safetensors', 'ready', 'upload', 1,
                 md5(n || 'a' || v) || md5(n || 'b' || v),
                 'user-' || pg_temp.owner(n) || '/f' || n || '.' || v || '.safetensors',
                 'user-' || pg_temp.owner(n) || '/loras/f' || n || '.' || v || '.safetensors', v,
                 case when v < 4 then now() end, timestamptz '2026-01-01 00:00:00+00' + n * interval '1 second'
               from generate_series(1, 4500) as n, generate_series(1, 4) as v;
             insert into public.comfyui_lora_paths (comfyui_path, user_id, sha256)
               select comfyui_path, user_id, sha256 from public.comfyui_lora_models;
             insert into public.comfyui_lora_models (id, user_id, name, filename, status, source, source_url, blob_key)
               select gen_random_uuid(), pg_temp.owner(n), 'lora', 'i' || n || '.safetensors', 'importing', 'url',
                 'https://a', 'user-' || pg_temp.owner(n) || '/loras/i' || n || '.safetensors'
               from generate_series(1, 2000) as n;
             insert into public.comfyui_lora_transfers (lora_id, user_id, remote)
               select id, user_id, '{\"url\": \"https://a\"}' from public.comfyui_lora_models where status = 'importing';
             insert into public.comfyui_lora_prefetches (lora_id, backend)
               select id, 'b' || ascii(left(id::text, 1)) % 3 from public.comfyui_lora_models where status = 'importing';
             insert into public.comfyui_lora_models (id, user_id, name, filename, status, source, deleted_at, blob_key)
               select gen_random_uuid(), pg_temp.owner(n), 'lora', 'd.safetensors', 'uploading', 'upload', now(),
                 'user-' || pg_temp.owner(n) || '/loras/d' || n || '.safetensors'
               from generate_series(1, 50) as n;
             analyze public.comfyui_lora_models; analyze public.comfyui_lora_paths;
             analyze public.comfyui_lora_transfers; analyze public.comfyui_lora_prefetches",
        )
        .await
        .unwrap();
}

const TABLES: &str = "('comfyui_lora_models', 'comfyui_lora_paths', 'comfyui_lora_transfers', 'comfyui_lora_prefetches')";

/// How many times a whole table was read, so far, and how many times an index. A connection tells when it ends.
async fn scans(admin: &Client) -> (String, i64) {
    let sql = format!(
        "select string_agg(relname || ' ' || seq_scan, ', ' order by relname), sum(idx_scan)::bigint
         from pg_stat_user_tables where relname in {TABLES}"
    );
    let row = admin.query_one(&sql, &[]).await.unwrap();
    (row.get(0), row.get(1))
}

fn filename(text: &str) -> LoraFilename {
    LoraFilename::parse(text).unwrap()
}

async fn find(store: &PgStore, owner: &Actor) {
    let path = format!("user-{OWNER}/f10.2.safetensors");
    let names = vec![
        LoraName::Latest(filename("f10.safetensors")),
        LoraName::Version(filename("f20.safetensors"), LoraVersion::new(3).unwrap()),
        LoraName::At(LoraPath::parse(&path).unwrap()),
    ];
    let found = store.loras().find_ready(owner, names).await.unwrap();
    assert_eq!(found.len(), 3);
    let versions = store.loras().versions(owner, found[0].id).await.unwrap();
    assert_eq!(versions.unwrap().len(), 4);
}

async fn list(store: &PgStore, owner: &Actor) {
    let unfiltered = LoraFilter::default();
    let unknown = LoraFilter {
        base_model: Some(BaseModelFilter::Unknown),
        ..LoraFilter::default()
    };
    for filter in [unfiltered, unknown] {
        let loras = store.loras();
        let page = loras.list(owner, filter, PageRequest::default());
        assert!(!page.await.unwrap().items.is_empty());
    }
}

async fn clean(store: &PgStore) {
    let due = store.loras().due_for_cleaning(20).await.unwrap();
    assert_eq!(due.len(), 20);
    let path = LoraPath::parse(&format!("user-{OWNER}/f10.2.safetensors")).unwrap();
    let filename = LoraFilename::parse(path.file()).unwrap();
    let contents = store.loras().contents_at(vec![path.clone()]).await.unwrap();
    assert_eq!(contents.len(), 1);
    let key = BlobKey::of_lora(OWNER.into(), &filename);
    let known = store.loras().known_owners(vec![BlobOwner::Lora(key)]).await;
    assert_eq!(known.unwrap().len(), 1);
    store.loras().paths_in_use().await.unwrap();
    store.uploads().finished(20).await.unwrap();
}

async fn work(store: &PgStore) {
    let claimed = store.transfers().claim(a_transfer_claim()).await.unwrap();
    let claimed = claimed.unwrap();
    let lease = std::time::Duration::from_mins(1);
    let (id, token) = (claimed.lora.id, claimed.token);
    let transfers = store.transfers();
    let report = transfers.report(id, token, 1, None, lease);
    assert!(report.await.unwrap());
    let taken = store.copies().take_requests("b1", 5).await.unwrap();
    assert_eq!(taken, [], "none is ready");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_often_reads_no_whole_table() {
    const CALLS: usize = 8;
    let database = Database::new(Kind::Bare).await;
    fill(&database.admin().await).await;
    let watcher = database.admin().await;
    let owner = Actor::new(OWNER.into());
    for what in ["find", "list", "clean", "work"] {
        let (whole, of_indexes) = scans(&watcher).await;
        // Enough calls for the plan that is kept, too: Postgres makes five of its own first.
        let store = database.store_of(1);
        for _ in 0..CALLS {
            match what {
                "find" => find(&store, &owner).await,
                "list" => list(&store, &owner).await,
                "clean" => clean(&store).await,
                _ => work(&store).await,
            }
        }
        drop(store);
        wait_until("the end of the connection", PATIENCE, async || {
            let connections = "select count(*) from pg_stat_activity
                where usename = 'atelier_app' and datname = current_database()";
            scalar(&watcher, connections).await.as_deref() == Some("0")
        })
        .await;

        let (whole_after, of_indexes_after) = scans(&watcher).await;
        assert_eq!(whole_after, whole, "{what} read a whole table");
        assert!(of_indexes_after > of_indexes, "nothing was counted");
    }
}
