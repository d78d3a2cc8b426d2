//! A unique index tells whoever writes whether somebody has that already: it must not tell of others.

use std::collections::BTreeMap;

use crate::support::{Database, Kind};

/// Those that begin neither with the owner nor with a UUID, which nobody guesses, and why they tell nobody anything.
const EXCEPTIONS: [(&str, &str); 8] = [
    (
        "__diesel_schema_migrations_pkey",
        "nobody of the application reaches the table",
    ),
    (
        "comfyui_api_tokens_token_sha256_key",
        "digests of random bytes",
    ),
    ("comfyui_audit_events_pkey", "a count that nobody writes"),
    ("comfyui_backends_pkey", "workers alone write it"),
    (
        "comfyui_external_identities_pkey",
        "only the server looks, for who proves to be the subject",
    ),
    (
        "comfyui_inputs_blob_key_key",
        "a check binds the key to the owner's folder",
    ),
    (
        "comfyui_installation_pkey",
        "one row, made by the migration",
    ),
    (
        "comfyui_lora_models_blob_key_key",
        "a check binds the key to the owner's folder",
    ),
];

/// Paths begin with the owner's folder, which the check of the table says.
const OWN_FOLDER: [&str; 1] = ["comfyui_lora_paths_pkey"];

#[tokio::test(flavor = "multi_thread")]
async fn unique_indexes_tell_nothing_of_others() {
    for kind in [Kind::Bare, Kind::Supabase] {
        let database = Database::new(kind).await;
        let admin = database.admin().await;
        let rows = admin
            .query(
                "select index.relname::text, first.attname::text, first.atttypid::regtype::text
                 from pg_index
                 join pg_class as index on index.oid = indexrelid
                 join pg_attribute as first on first.attrelid = indrelid and first.attnum = indkey[0]
                 where indisunique and index.relnamespace = 'public'::regnamespace",
                &[],
            )
            .await
            .unwrap();
        assert!(rows.len() > 15, "{}", rows.len());
        let unsafe_ones: BTreeMap<String, String> = rows
            .iter()
            .filter(|row| row.get::<_, &str>(1) != "user_id" && row.get::<_, &str>(2) != "uuid")
            .map(|row| (row.get(0), row.get(1)))
            .collect();

        let found: Vec<&str> = unsafe_ones.keys().map(String::as_str).collect();

        let mut expected: Vec<&str> = EXCEPTIONS.map(|(index, _)| index).to_vec();
        expected.extend(OWN_FOLDER);
        expected.sort_unstable();
        assert_eq!(found, expected, "{kind:?}");
    }
}

/// Makes a row of an owner's under a key.
type Insert<'a> = &'a dyn Fn(uuid::Uuid, &str) -> String;

/// The same key of somebody else's is refused in the same words whether it is taken or not.
#[tokio::test(flavor = "multi_thread")]
async fn keys_in_the_folders_of_others_cannot_be_tried() {
    let database = Database::new(Kind::Bare).await;
    let admin = database.admin().await;
    let (alice, bob) = (atelier_testkit::random_id(), atelier_testkit::random_id());
    let input = |owner, key: &str| {
        format!(
            "insert into public.comfyui_inputs
               (id, user_id, filename, content_type, size_bytes, sha256, width, height, comfyui_path, blob_key)
             values (gen_random_uuid(), '{owner}', 'a.png', 'image/png', 1, repeat('a', 64), 1, 1,
               'user-{owner}/a.png', '{key}')"
        )
    };
    let lora = |owner, key: &str| {
        format!(
            "insert into public.comfyui_lora_models (id, user_id, name, filename, status, source, blob_key)
             values (gen_random_uuid(), '{owner}', 'a', 'a.safetensors', 'uploading', 'upload', '{key}')"
        )
    };
    let path = |owner, key: &str| {
        format!(
            "insert into public.comfyui_lora_paths (comfyui_path, user_id, sha256)
             values ('{key}', '{owner}', repeat('a', 64))"
        )
    };
    let tables: [(Insert<'_>, &str); 3] = [(&input, "inputs/"), (&lora, "loras/"), (&path, "")];
    for (insert, folder) in tables {
        let taken = format!("user-{alice}/{folder}taken.safetensors");
        let free = format!("user-{alice}/{folder}free.safetensors");
        admin.batch_execute(&insert(alice, &taken)).await.unwrap();
        admin.batch_execute("begin").await.unwrap();
        let mut codes = Vec::new();
        for key in [&taken, &free] {
            admin
                .batch_execute(&format!(
                    "savepoint trying; select set_config('role', 'atelier_writer', true),
                       set_config('request.jwt.claims', '{{\"sub\":\"{bob}\"}}', true)"
                ))
                .await
                .unwrap();
            let refused = admin.batch_execute(&insert(bob, key)).await.unwrap_err();
            codes.push(refused.code().map(|code| code.code().to_owned()));
            admin
                .batch_execute("rollback to savepoint trying")
                .await
                .unwrap();
        }
        admin.batch_execute("rollback").await.unwrap();

        assert_eq!(codes, vec![Some("23514".to_owned()); 2], "{taken}");
    }
}
