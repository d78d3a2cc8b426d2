//! The transactions of the server, for `pgbench`.
//!
//! A person's claims and a workflow's id are put together by the database from numbers, which `pgbench` has instead of
//! texts: a microsecond of the hundred and more that a transaction takes.

use crate::data::{KEYS_OF_EACH, PERSON, WORKFLOWS_OF_EACH};

/// What the adapter sets for a whole connection (`crates/adapter-postgres/src/pool.rs`), as options of a connection.
pub(crate) const SETTINGS: &str = "-c statement_timeout=15s -c lock_timeout=5s \
    -c idle_in_transaction_session_timeout=30s -c random_page_cost=1.1";

/// As in the adapter (`crates/adapter-postgres/src/transaction.rs`).
pub(crate) fn preamble() -> String {
    format!(
        "select set_config('role', 'authenticated', true), set_config('request.jwt.claims', \
         '{{\"sub\":\"{PERSON}' || lpad(:client_id::text, 12, '0') || '\",\"role\":\"authenticated\"}}', true)"
    )
}

/// Chooses a workflow of the client's.
pub(crate) fn choose() -> String {
    format!(
        "\\set key :client_id * {KEYS_OF_EACH} + random(0, {})",
        WORKFLOWS_OF_EACH - 1
    )
}

/// Reads the workflow that was chosen.
pub(crate) const GET: &str = "\
    select id, user_id, name, description, workflow_json, is_public, tags, revision, created_at, updated_at \
    from public.comfyui_workflows where id = lpad(:key::text, 32, '0')::uuid";

/// Reads the first page of everything that the client sees.
pub(crate) fn list() -> String {
    let person = format!("('{PERSON}' || lpad(:client_id::text, 12, '0'))::uuid");
    let branch = |condition: &str| {
        format!(
            "(select id, user_id, name, description, is_public, tags, created_at, updated_at \
             from public.comfyui_workflows where {condition} \
             and (created_at, id) < (timestamptz '9999-12-31', 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) \
             order by created_at desc, id desc limit 51)"
        )
    };
    format!(
        "select * from ({} union all {}) as page order by created_at desc, id desc limit 51",
        branch(&format!("user_id = {person}")),
        branch(&format!("is_public and user_id <> {person}")),
    )
}

/// Stores a workflow, whose prompt comes with each transaction. Ids ascend with time, as the server's do.
pub(crate) fn create() -> String {
    format!(
        "insert into public.comfyui_workflows \
           (id, user_id, name, description, workflow_json, is_public, tags, created_at, updated_at) \
         values ((lpad(to_hex((extract(epoch from clock_timestamp()) * 1000000)::bigint), 16, '0') \
             || substr(md5(random()::text), 1, 16))::uuid, \
           ('{PERSON}' || lpad(:client_id::text, 12, '0'))::uuid, 'House by a lake', null, :graph, false, \
           '{{landscape}}', now(), now())"
    )
}
