//! LoRAs of before there were versions: what becomes of them, there and back.

use atelier_domain::actor::Actor;
use atelier_domain::lora::{LoraFilter, LoraVersion};
use atelier_domain::page::PageRequest;
use atelier_domain::ports::{LoraRepo, WriteOutcome};
use atelier_postgres::MIGRATIONS;
use atelier_testkit::build::{a_replacement, an_actor, received};
use diesel_async::{AsyncConnection, AsyncMigrationHarness, AsyncPgConnection};
use diesel_migrations::MigrationHarness;
use tokio_postgres::Client;

use crate::support::{Database, Kind, scalar};

/// How many migrations there were before.
const BEFORE: usize = 5;

/// One of each status, and one that is deleted.
async fn fill(admin: &Client, owner: &Actor) {
    let owner = owner.user_id();
    admin
        .batch_execute(&format!(
            "insert into public.comfyui_lora_models
               (id, user_id, name, filename, status, source, google_drive_file_id, file_size, sha256, comfyui_path,
                 blob_key, base_model, trigger_words, metadata, error_code, error_message, deleted_at) values
               (gen_random_uuid(), '{owner}', 'a', 'a.safetensors', 'ready', 'upload', null, 1, repeat('a', 64),
                 'user-{owner}/a.safetensors', 'user-{owner}/loras/a.safetensors', 'sd_v1-4', '{{word}}',
                 '{{\"rank\": 4}}', null, null, null),
               (gen_random_uuid(), '{owner}', 'b', 'b.safetensors', 'uploading', 'upload', null, null, null, null,
                 'user-{owner}/loras/b.safetensors', null, '{{}}', '{{}}', null, null, null),
               (gen_random_uuid(), '{owner}', 'c', 'c.safetensors', 'failed', 'google_drive', 'id', null, null, null,
                 'user-{owner}/loras/c.safetensors', null, '{{}}', '{{}}', 'code', 'message', null),
               (gen_random_uuid(), '{owner}', 'a', 'a.safetensors', 'ready', 'upload', null, 1, repeat('b', 64),
                 'user-{owner}/x.safetensors', 'user-{owner}/loras/x.safetensors', null, '{{}}', '{{}}', null, null,
                 now());
             insert into public.comfyui_lora_paths
               values ('user-{owner}/a.safetensors', '{owner}', repeat('a', 64));"
        ))
        .await
        .unwrap();
}

async fn rows(admin: &Client) -> String {
    let sql = "select string_agg(filename || ' ' || status || ' ' || coalesce(sha256, '-') || ' ' || (deleted_at is null),
        ', ' order by filename, sha256) from public.comfyui_lora_models";
    scalar(admin, sql).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn loras_of_before_are_first_versions_and_survive_the_way_back() {
    for kind in [Kind::Bare, Kind::Supabase] {
        let database = Database::unmigrated(kind).await;
        let connection = AsyncPgConnection::establish(&database.owner_url()).await;
        let mut harness = AsyncMigrationHarness::new(connection.unwrap());
        for _ in 0..BEFORE {
            harness.run_next_migration(MIGRATIONS).unwrap();
        }
        database.give_everybody_accounts().await;
        let admin = database.admin().await;
        let alice = an_actor();
        fill(&admin, &alice).await;
        let before = rows(&admin).await;

        let applied = BEFORE + harness.run_pending_migrations(MIGRATIONS).unwrap().len();

        let loras = database.store().loras();
        let listed = loras.list(&alice, LoraFilter::default(), PageRequest::default());
        let listed = listed.await.unwrap().items;
        assert_eq!(listed.len(), 3, "{kind:?}");
        let ready = listed
            .iter()
            .find(|lora| lora.filename.as_str() == "a.safetensors")
            .unwrap();
        let content = ready.content.as_ref().unwrap();
        assert_eq!(content.version, LoraVersion::FIRST);
        assert_eq!(
            (content.hashes.blake3, &content.facts.base_model),
            (None, &None)
        );
        assert_eq!(content.facts.trigger_words, ["word"]);
        // What the trainer wrote is kept, as no more than that.
        assert_eq!(content.facts.metadata["base_model"], "sd_v1-4");
        assert_eq!(content.facts.metadata["rank"], 4);
        let replaced = loras.reserve(&alice, a_replacement("a.safetensors")).await;
        let second = loras.mark_ready(&alice, replaced.unwrap().id, received(b"2"));
        let WriteOutcome::Done(second) = second.await.unwrap() else {
            panic!("the replacement did not become ready");
        };
        loras
            .reserve(&alice, a_replacement("a.safetensors"))
            .await
            .unwrap();

        for _ in BEFORE..applied {
            harness.revert_last_migration(MIGRATIONS).unwrap();
        }

        let digest = second.content.unwrap().hashes.sha256.to_string();
        let expected = before.replace(
            &format!("a.safetensors ready {} true", "a".repeat(64)),
            &format!("a.safetensors ready {digest} true"),
        );
        let mut left: Vec<String> = rows(&admin).await.split(", ").map(str::to_owned).collect();
        let mut expected: Vec<String> = expected.split(", ").map(str::to_owned).collect();
        left.sort();
        expected.sort();
        assert_eq!(left, expected, "{kind:?}");
        harness.run_pending_migrations(MIGRATIONS).unwrap();
        drop(harness);
        assert!(loras.get(&alice, second.id).await.unwrap().is_some());
    }
}
