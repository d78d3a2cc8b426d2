//! Atelier's repositories, run queue, transfers and signals over `PostgreSQL`, bare or Supabase's.
//!
//! # Who acts
//! The server logs in as `atelier_app`, a role that owns nothing and may do nothing. Every method is one transaction
//! that first becomes one of three roles, and a forgotten switch fails:
//!
//! | role | for | bound by row-level security |
//! |---|---|---|
//! | `authenticated` | reading as a person; writing workflows | yes, as at Supabase's Data API |
//! | `atelier_writer` | what only the server may write for a person: enqueueing a checked run, cancelling it, LoRAs, uploads, imports, input files, personal tokens | yes, to the person's rows |
//! | `service_role` | workers, transfers and cleaning; finding out whom a token or another provider's identity stands for | no (`BYPASSRLS`) |
//!
//! A person with an access token can reach the tables past the server, through Supabase's Data API. `authenticated`
//! therefore has no right to write runs, outputs, events or LoRAs at all: nobody forges an output, marks a run
//! completed, or queues a graph that was refused. The functions that workers call live in schema `atelier`, which no API
//! exposes.
//!
//! # The transaction
//! A transaction opens with one batch, `BEGIN; SELECT set_config('role', ...), set_config('request.jwt.claims', ...),
//! ...`, which holds nothing that a person wrote: a role out of three and a UUID. The first statement travels with it;
//! `COMMIT` follows when the answer is there. So a method of one statement takes **two round trips**, one more for the
//! first use of a statement on a connection, which prepares it.
//!
//! A future may be dropped half-way at any time. The lease on the connection counts as unclean from before `BEGIN` until
//! `COMMIT` or `ROLLBACK` is answered, and an unclean connection is closed instead of going back to the pool: nobody
//! gets a connection with somebody else's role or an open transaction.
//!
//! # Adding a repository
//! 1. A migration: the table, `enable` and `force row level security`, `revoke all` from the API roles, grants as small
//!    as they can be, a policy for each command that a person may use. The matrix of policies in the tests finds the
//!    table by itself, and fails until it is told what to expect.
//! 2. The table in `schema.rs`; a row struct that becomes the domain's type in one function, with
//!    [`RepoError::Inconsistent`](atelier_domain::ports::RepoError::Inconsistent) for what breaks a rule.
//! 3. The repository over [`PgStore`]: each method calls the store's `transact` with a role and a closure. In it, use
//!    diesel's query builder, or a `Statement` for SQL that it cannot write; not `sql_query`, which is prepared anew each
//!    time. Hand every error on with `?`.
//! 4. The conformance suite of the port from `atelier-testkit`, in `tests/`.

mod api_tokens;
mod audit_trail;
mod connect;
mod connections;
mod diagnosis;
mod enqueue;
mod error;
mod external_identities;
mod giving_back;
mod idempotency;
mod input_repo;
mod input_rows;
mod json_text;
mod lora_copies;
mod lora_repo;
mod lora_rows;
mod lora_statements;
mod lora_transfers;
mod lora_uploads;
mod lora_writes;
mod migrate;
mod options;
mod page;
mod pool;
mod previews;
mod queue_rows;
mod queue_statements;
mod remote_json;
mod run_queue;
mod run_repo;
mod run_rows;
mod schema;
mod signals;
mod statement;
mod store;
#[cfg(test)]
mod storm;
mod transaction;
mod usage_repo;
mod workflow_repo;
mod workflow_rows;

pub use api_tokens::PgApiTokens;
pub use audit_trail::PgAuditTrail;
pub use connections::PgConnections;
pub use diagnosis::{DiagnosisError, PgDiagnosis, diagnose};
pub use external_identities::PgExternalIdentities;
pub use input_repo::PgInputRepo;
pub use lora_copies::PgLoraCopies;
pub use lora_repo::PgLoraRepo;
pub use lora_transfers::PgLoraTransfers;
pub use lora_uploads::PgLoraUploads;
pub use migrate::{MIGRATIONS, MigrateError, MigrationReport, migrate};
pub use options::{PgOpenError, PgOptions};
pub use previews::PgRunPreviews;
pub use run_queue::PgRunQueue;
pub use run_repo::PgRunRepo;
pub use signals::PgRunSignals;
pub use store::PgStore;
pub use usage_repo::PgUsageRepo;
pub use workflow_repo::PgWorkflowRepo;
