//! What each kind of asker may do with each table; `policies` holds it against the database.

use std::fmt;

/// Who asks, in the order of the expectations.
pub(crate) const ASKERS: [&str; 6] = [
    "owner",
    "other person",
    "server for owner",
    "server for other person",
    "anonymous",
    "worker",
];

/// What came of a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// So many rows were seen or changed.
    Rows(u64),
    /// Refused by grant or policy.
    No,
}

impl fmt::Debug for Outcome {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rows(rows) => write!(formatter, "{rows} rows"),
            Self::No => formatter.write_str("refused"),
        }
    }
}

pub(crate) use Outcome::{No, Rows};

/// What is expected of a table that holds rows of alice's, for each of [`ASKERS`]. `{id}` in an insert is a new id,
/// `{alice}` the person whose row it would be.
pub(crate) struct Expected {
    pub(crate) table: &'static str,
    pub(crate) select: [Outcome; 6],
    pub(crate) insert: (&'static str, [Outcome; 6]),
    pub(crate) update: (&'static str, [Outcome; 6]),
    pub(crate) delete: [Outcome; 6],
}

pub(crate) const NOBODY: [Outcome; 6] = [No; 6];
pub(crate) const WORKER: [Outcome; 6] = [No, No, No, No, No, Rows(1)];
/// Nobody but the owner sees it, and workers do.
pub(crate) const OWN: [Outcome; 6] = [Rows(1), Rows(0), Rows(1), Rows(0), No, Rows(1)];

/// Only the server sees it, for its owner, and workers do.
pub(crate) const SERVER_FOR_OWNER: [Outcome; 6] = [No, No, Rows(1), Rows(0), No, Rows(1)];

pub(crate) const EXPECTED: [Expected; 20] = [
    Expected {
        table: "__diesel_schema_migrations",
        select: NOBODY,
        insert: (
            "insert into public.__diesel_schema_migrations (version) values ('x')",
            NOBODY,
        ),
        update: (
            "update public.__diesel_schema_migrations set run_on = run_on",
            NOBODY,
        ),
        delete: NOBODY,
    },
    Expected {
        table: "comfyui_users",
        select: OWN,
        insert: (
            "insert into public.comfyui_users (id) values ('{id}')",
            WORKER,
        ),
        update: (
            "update public.comfyui_users set last_served_at = last_served_at",
            WORKER,
        ),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_workflows",
        // One of alice's two is public.
        select: [Rows(2), Rows(1), Rows(2), Rows(1), No, Rows(2)],
        insert: (
            "insert into public.comfyui_workflows (id, user_id, name, workflow_json)
             values ('{id}', '{alice}', 'a', '{}')",
            [Rows(1), No, Rows(1), No, No, Rows(1)],
        ),
        update: (
            "update public.comfyui_workflows set name = name",
            [Rows(2), Rows(0), Rows(2), Rows(0), No, Rows(2)],
        ),
        delete: [Rows(2), Rows(0), Rows(2), Rows(0), No, Rows(2)],
    },
    Expected {
        table: "comfyui_lora_models",
        // The second one is deleted: gone for its owner, not for the server.
        select: [Rows(1), Rows(0), Rows(2), Rows(0), No, Rows(2)],
        insert: (
            "insert into public.comfyui_lora_models (id, user_id, name, filename, status, source)
             values ('{id}', '{alice}', 'a', 'new.safetensors', 'uploading', 'upload')",
            [No, No, Rows(1), No, No, Rows(1)],
        ),
        update: (
            "update public.comfyui_lora_models set name = name",
            [No, No, Rows(2), Rows(0), No, Rows(2)],
        ),
        delete: [No, No, No, No, No, Rows(2)],
    },
    Expected {
        table: "comfyui_lora_paths",
        select: [No, No, Rows(1), Rows(0), No, Rows(1)],
        insert: (
            "insert into public.comfyui_lora_paths (comfyui_path, user_id, sha256)
             values ('user-{alice}/{id}.safetensors', '{alice}', repeat('a', 64))",
            [No, No, Rows(1), No, No, Rows(1)],
        ),
        update: (
            "update public.comfyui_lora_paths set sha256 = sha256",
            WORKER,
        ),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_workflow_runs",
        select: OWN,
        insert: (
            "insert into public.comfyui_workflow_runs (id, user_id, graph, nodes_total)
             values ('{id}', '{alice}', '{}', 1)",
            [No, No, Rows(1), No, No, Rows(1)],
        ),
        update: (
            "update public.comfyui_workflow_runs
             set status = 'cancelled', cancel_requested_at = now(), completed_at = now()",
            [No, No, Rows(1), Rows(0), No, Rows(1)],
        ),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_run_events",
        select: OWN,
        insert: (
            "insert into public.comfyui_run_events (run_id, sequence, user_id, kind, data)
             select id, 99, user_id, 'status', '{}' from public.comfyui_workflow_runs",
            // The server for another person sees no run to insert an event of, but may not insert one either.
            WORKER,
        ),
        update: ("update public.comfyui_run_events set data = data", WORKER),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_run_outputs",
        select: OWN,
        insert: (
            "insert into public.comfyui_run_outputs
               (run_id, index, user_id, node_id, kind, filename, content_type, size_bytes, sha256, blob_key)
             select id, 99, user_id, '9', 'image', 'a.png', 'image/png', 1, repeat('a', 64), 'user-x/a.png'
             from public.comfyui_workflow_runs",
            WORKER,
        ),
        update: (
            "update public.comfyui_run_outputs set blob_key = blob_key",
            WORKER,
        ),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_backends",
        select: WORKER,
        insert: (
            "insert into public.comfyui_backends (name, worker, answers, max_in_flight, foreign_prompts)
             values ('b', '{id}', true, 1, 0)",
            WORKER,
        ),
        update: ("update public.comfyui_backends set answers = answers", WORKER),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_lora_copies",
        select: WORKER,
        insert: (
            "insert into public.comfyui_lora_copies (lora_id, backend)
             values ('22222222-2222-4222-8222-222222222222', '{id}')",
            WORKER,
        ),
        update: (
            "update public.comfyui_lora_copies set seen_at = seen_at",
            WORKER,
        ),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_idempotency_keys",
        // Not through the Data API: an answer is the server's to give again.
        select: [No, No, Rows(1), Rows(0), No, Rows(1)],
        insert: (
            "insert into public.comfyui_idempotency_keys (user_id, method, path, key, fingerprint, status, body)
             values ('{alice}', 'POST', '/', '{id}', repeat('a', 64), 202, '{}')",
            [No, No, Rows(1), No, No, Rows(1)],
        ),
        update: (
            "update public.comfyui_idempotency_keys set body = body",
            WORKER,
        ),
        delete: [No, No, Rows(1), Rows(0), No, Rows(1)],
    },
    Expected {
        table: "comfyui_lora_uploads",
        select: SERVER_FOR_OWNER,
        insert: (
            "insert into public.comfyui_lora_uploads (lora_id, user_id, length, metadata)
             values ('{id}', '{alice}', 10, '')",
            [No, No, Rows(1), No, No, Rows(1)],
        ),
        update: (
            "update public.comfyui_lora_uploads set bytes_done = bytes_done",
            SERVER_FOR_OWNER,
        ),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_lora_upload_pieces",
        select: SERVER_FOR_OWNER,
        insert: (
            "insert into public.comfyui_lora_upload_pieces (lora_id, user_id, starts_at, size_bytes, blob_key)
             values ('11111111-1111-4111-8111-111111111111', '{alice}', 4, 4,
               'user-{alice}/uploads/11111111-1111-4111-8111-111111111111/4')",
            [No, No, Rows(1), No, No, Rows(1)],
        ),
        update: (
            "update public.comfyui_lora_upload_pieces set size_bytes = size_bytes",
            WORKER,
        ),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_lora_transfers",
        // Not through the Data API: who knew a claim's token could speak as the worker.
        select: SERVER_FOR_OWNER,
        insert: (
            "insert into public.comfyui_lora_transfers (lora_id, user_id)
             values ('22222222-2222-4222-8222-222222222222', '{alice}')",
            [No, No, Rows(1), No, No, Rows(1)],
        ),
        update: (
            "update public.comfyui_lora_transfers set attempt = attempt",
            WORKER,
        ),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_lora_prefetches",
        select: WORKER,
        insert: (
            "insert into public.comfyui_lora_prefetches (lora_id, backend)
             values ('22222222-2222-4222-8222-222222222222', '{id}')",
            WORKER,
        ),
        update: (
            "update public.comfyui_lora_prefetches set requested_at = requested_at",
            WORKER,
        ),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_inputs",
        // The second one is deleted: gone for its owner, not for the server.
        select: [Rows(1), Rows(0), Rows(2), Rows(0), No, Rows(2)],
        insert: (
            "insert into public.comfyui_inputs
               (id, user_id, filename, content_type, size_bytes, sha256, width, height, comfyui_path, blob_key)
             values ('{id}', '{alice}', 'new.png', 'image/png', 1, repeat('a', 64), 1, 1,
               'user-{alice}/new.png', 'user-{alice}/inputs/{id}')",
            [No, No, Rows(1), No, No, Rows(1)],
        ),
        update: (
            "update public.comfyui_inputs set deleted_at = now()",
            [No, No, Rows(2), Rows(0), No, Rows(2)],
        ),
        delete: [No, No, No, No, No, Rows(2)],
    },
    Expected {
        table: "comfyui_api_tokens",
        select: OWN,
        // Not through the Data API: which scopes a token has is the server's to check.
        insert: (
            "insert into public.comfyui_api_tokens (id, user_id, name, token_sha256, scopes)
             values ('{id}', '{alice}', 'a', encode(sha256('{id}'), 'hex'), array['runs:read'])",
            [No, No, Rows(1), No, No, Rows(1)],
        ),
        update: ("update public.comfyui_api_tokens set name = name", WORKER),
        delete: SERVER_FOR_OWNER,
    },
    Expected {
        table: "comfyui_external_identities",
        select: OWN,
        insert: (
            "insert into public.comfyui_external_identities (issuer, subject, user_id, email, origin)
             values ('https://idp.example', '{id}', '{alice}', 'a@example.com', 'email')",
            WORKER,
        ),
        update: (
            "update public.comfyui_external_identities set email = email",
            WORKER,
        ),
        delete: WORKER,
    },
    Expected {
        table: "comfyui_audit_events",
        // A workflow that was published, a token and an identity; one more is of nobody.
        select: [Rows(3), Rows(0), Rows(3), Rows(0), No, Rows(4)],
        insert: (
            "insert into public.comfyui_audit_events (user_id, action) values ('{alice}', 'a')",
            WORKER,
        ),
        update: ("update public.comfyui_audit_events set action = action", NOBODY),
        delete: NOBODY,
    },
    Expected {
        table: "comfyui_installation",
        select: WORKER,
        insert: (
            "insert into public.comfyui_installation (is_only) values (true)",
            NOBODY,
        ),
        update: ("update public.comfyui_installation set id = id", NOBODY),
        delete: NOBODY,
    },
];
