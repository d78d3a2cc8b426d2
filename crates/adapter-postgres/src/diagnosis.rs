//! What is wrong with a database, for whoever sets one up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, Bool, Integer, Nullable, Text, Timestamptz};
use diesel::{QueryResult, QueryableByName};
use diesel_async::{AsyncPgConnection, RunQueryDsl as _, SimpleAsyncConnection as _};
use thiserror::Error;
use tokio::runtime::Handle;

use crate::connect::Connector;
use crate::options::{PgOpenError, PgOptions};
use crate::statement::Statement;

/// What a login of the server is called, and what it must be able to become.
const ROLES: [&str; 3] = ["authenticated", "atelier_writer", "service_role"];

/// Every policy that the migrations make, as `table policy`.
const POLICIES: &[&str] = &[
    "comfyui_api_tokens comfyui_api_tokens_delete",
    "comfyui_api_tokens comfyui_api_tokens_insert",
    "comfyui_api_tokens comfyui_api_tokens_select",
    "comfyui_audit_events comfyui_audit_events_select",
    "comfyui_external_identities comfyui_external_identities_select",
    "comfyui_idempotency_keys comfyui_idempotency_keys_delete",
    "comfyui_idempotency_keys comfyui_idempotency_keys_insert",
    "comfyui_idempotency_keys comfyui_idempotency_keys_select",
    "comfyui_inputs comfyui_inputs_insert",
    "comfyui_inputs comfyui_inputs_select",
    "comfyui_inputs comfyui_inputs_select_deleted",
    "comfyui_inputs comfyui_inputs_update",
    "comfyui_lora_models comfyui_lora_models_insert",
    "comfyui_lora_models comfyui_lora_models_select",
    "comfyui_lora_models comfyui_lora_models_select_deleted",
    "comfyui_lora_models comfyui_lora_models_update",
    "comfyui_lora_paths comfyui_lora_paths_insert",
    "comfyui_lora_paths comfyui_lora_paths_select",
    "comfyui_lora_transfers comfyui_lora_transfers_insert",
    "comfyui_lora_transfers comfyui_lora_transfers_select",
    "comfyui_lora_upload_pieces comfyui_lora_upload_pieces_insert",
    "comfyui_lora_upload_pieces comfyui_lora_upload_pieces_select",
    "comfyui_lora_uploads comfyui_lora_uploads_insert",
    "comfyui_lora_uploads comfyui_lora_uploads_select",
    "comfyui_lora_uploads comfyui_lora_uploads_update",
    "comfyui_run_events comfyui_run_events_select",
    "comfyui_run_outputs comfyui_run_outputs_select",
    "comfyui_users comfyui_users_select",
    "comfyui_workflow_runs comfyui_workflow_runs_insert",
    "comfyui_workflow_runs comfyui_workflow_runs_select",
    "comfyui_workflow_runs comfyui_workflow_runs_update",
    "comfyui_workflows comfyui_workflows_delete",
    "comfyui_workflows comfyui_workflows_insert",
    "comfyui_workflows comfyui_workflows_select",
    "comfyui_workflows comfyui_workflows_update",
];

/// Every table that the migrations make.
const TABLES: &[&str] = &[
    "comfyui_api_tokens",
    "comfyui_audit_events",
    "comfyui_backends",
    "comfyui_external_identities",
    "comfyui_idempotency_keys",
    "comfyui_inputs",
    "comfyui_installation",
    "comfyui_lora_copies",
    "comfyui_lora_models",
    "comfyui_lora_paths",
    "comfyui_lora_prefetches",
    "comfyui_lora_transfers",
    "comfyui_lora_upload_pieces",
    "comfyui_lora_uploads",
    "comfyui_run_events",
    "comfyui_run_outputs",
    "comfyui_users",
    "comfyui_workflow_runs",
    "comfyui_workflows",
];

/// What was found out about a database.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct PgDiagnosis {
    /// The server's version, such as `15.8`.
    pub version: String,
    /// The same as a number, such as 150008.
    pub version_number: i32,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// Who logged in.
    pub login: String,
    /// Whether that is a superuser, whom no policy binds.
    pub is_superuser: bool,
    /// Whether no policy binds it for another reason.
    pub bypasses_policies: bool,
    /// Whether it has the rights of its roles without becoming them.
    pub inherits: bool,
    /// The roles that it needs and cannot become.
    pub cannot_become: Vec<String>,
    /// The database's time, and how long it took to ask for it.
    pub time: (DateTime<Utc>, Duration),
    /// Tables of this version that are not there: migrations are missing.
    pub missing_tables: Vec<String>,
    /// Tables whose row-level security is off, or not forced on their owner.
    pub open_tables: Vec<String>,
    /// Policies of this version that are not there, as `table policy`.
    pub missing_policies: Vec<String>,
    /// Policies on our tables that are not this version's, likewise.
    pub unknown_policies: Vec<String>,
    /// Tables in which somebody unknown sees rows of others.
    pub leaking_tables: Vec<String>,
    /// Whether the session stays the same from transaction to transaction: behind a pooler in
    /// transaction mode it does not, and there are no notifications.
    pub keeps_session: bool,
}

/// Why nothing was found out.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum DiagnosisError {
    /// The options cannot work.
    #[error(transparent)]
    Options(#[from] PgOpenError),
    /// The database cannot be reached with this address.
    #[error("cannot connect to the database: {0}")]
    Connect(String),
    /// The database refused a question.
    #[error("the database refused a question: {0}")]
    Question(String),
    /// The task that asks ended early.
    #[error("the questions were stopped: {0}")]
    Stopped(String),
}

impl From<diesel::result::Error> for DiagnosisError {
    fn from(error: diesel::result::Error) -> Self {
        Self::Question(error.to_string())
    }
}

/// Asks a database what might be wrong with it, over a connection of its own, and changes nothing.
///
/// # Errors
/// [`DiagnosisError`] if there is nobody to ask.
pub async fn diagnose(options: &PgOptions, io: &Handle) -> Result<PgDiagnosis, DiagnosisError> {
    let connector = Connector::new(options)?;
    io.spawn(async move {
        let mut connection = connector
            .connect()
            .await
            .map_err(|error| DiagnosisError::Connect(error.to_string()))?;
        examine(&mut connection).await
    })
    .await
    .map_err(|error| DiagnosisError::Stopped(error.to_string()))?
}

#[derive(QueryableByName)]
struct LoginRow {
    #[diesel(sql_type = Text)]
    version: String,
    #[diesel(sql_type = Integer)]
    version_number: i32,
    #[diesel(sql_type = Nullable<Bool>)]
    encrypted: Option<bool>,
    #[diesel(sql_type = Text)]
    login: String,
    #[diesel(sql_type = Bool)]
    is_superuser: bool,
    #[diesel(sql_type = Bool)]
    bypasses_policies: bool,
    #[diesel(sql_type = Bool)]
    inherits: bool,
}

const LOGIN: &str = "\
    select current_setting('server_version') as version, \
      current_setting('server_version_num')::int4 as version_number, \
      (select ssl from pg_stat_ssl where pid = pg_backend_pid()) as encrypted, \
      rolname::text as login, rolsuper as is_superuser, rolbypassrls as bypasses_policies, rolinherit as inherits \
    from pg_roles where rolname = session_user";

#[derive(QueryableByName)]
struct TimeRow {
    #[diesel(sql_type = Timestamptz)]
    time: DateTime<Utc>,
}

#[derive(QueryableByName)]
struct NamesRow {
    #[diesel(sql_type = Array<Text>)]
    names: Vec<String>,
}

/// `MEMBER` is the right to become a role.
const CAN_BECOME: &str = "\
    select coalesce(array_agg(rolname::text order by rolname), '{}') as names from pg_roles \
    where rolname = any($1) and pg_has_role(session_user, oid, 'MEMBER')";

const TABLES_THERE: &str = "\
    select coalesce(array_agg(relname::text order by relname), '{}') as names from pg_class \
    where relnamespace = to_regnamespace('public') and relkind = 'r' and relname = any($1)";

const OPEN_TABLES: &str = "\
    select coalesce(array_agg(relname::text order by relname), '{}') as names from pg_class \
    where relnamespace = to_regnamespace('public') and relkind = 'r' and relname = any($1) \
      and not (relrowsecurity and relforcerowsecurity)";

const POLICIES_THERE: &str = "\
    select coalesce(array_agg(relname || ' ' || polname order by relname, polname), '{}') as names \
    from pg_policy join pg_class on pg_class.oid = polrelid \
    where relnamespace = to_regnamespace('public') and relname = any($1)";

async fn examine(connection: &mut AsyncPgConnection) -> Result<PgDiagnosis, DiagnosisError> {
    let login: LoginRow = Statement::new(LOGIN).get_result(connection).await?;
    let asked = Instant::now();
    let TimeRow { time } = Statement::new("select clock_timestamp() as time")
        .get_result(connection)
        .await?;
    let time = (time, asked.elapsed());
    let can_become = names(connection, CAN_BECOME, &ROLES).await?;
    let tables = names(connection, TABLES_THERE, TABLES).await?;
    let open_tables = names(connection, OPEN_TABLES, TABLES).await?;
    let policies = names(connection, POLICIES_THERE, TABLES).await?;
    let can_ask = can_become.contains("authenticated");
    let leaking_tables = if can_ask {
        leaking(connection, &tables).await?
    } else {
        Vec::new()
    };
    let missing = |expected: &[&str], there: &BTreeSet<String>| {
        let missing = expected.iter().filter(|name| !there.contains(**name));
        missing.map(|name| (*name).to_owned()).collect::<Vec<_>>()
    };
    let missing_tables = missing(TABLES, &tables);
    let mut missing_policies = missing(POLICIES, &policies);
    // Of a table that is not there, that is enough said.
    missing_policies.retain(|policy| {
        let table = policy.split(' ').next().unwrap_or_default();
        tables.contains(table)
    });
    let unknown = policies
        .iter()
        .filter(|name| !POLICIES.contains(&name.as_str()));
    Ok(PgDiagnosis {
        unknown_policies: unknown.cloned().collect(),
        missing_policies,
        cannot_become: missing(&ROLES, &can_become),
        missing_tables,
        open_tables: open_tables.into_iter().collect(),
        leaking_tables,
        keeps_session: keeps_session(connection).await?,
        time,
        version: login.version,
        version_number: login.version_number,
        encrypted: login.encrypted.unwrap_or(false),
        login: login.login,
        is_superuser: login.is_superuser,
        bypasses_policies: login.bypasses_policies,
        inherits: login.inherits,
    })
}

async fn names(
    connection: &mut AsyncPgConnection,
    sql: &'static str,
    among: &[&str],
) -> QueryResult<BTreeSet<String>> {
    let among: Vec<String> = among.iter().map(|name| (*name).to_owned()).collect();
    let row: NamesRow = Statement::new(sql)
        .bind::<Array<Text>, _>(among)
        .get_result(connection)
        .await?;
    Ok(row.names.into_iter().collect())
}

#[derive(QueryableByName)]
struct CountRow {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// What belongs to people, and how to see whether anybody else's is seen.
const PRIVATE: [(&str, &str); 4] = [
    (
        "comfyui_workflows",
        "select count(*) from (select from public.comfyui_workflows where not is_public limit 1) as seen",
    ),
    (
        "comfyui_workflow_runs",
        "select count(*) from (select from public.comfyui_workflow_runs limit 1) as seen",
    ),
    (
        "comfyui_run_outputs",
        "select count(*) from (select from public.comfyui_run_outputs limit 1) as seen",
    ),
    (
        "comfyui_lora_models",
        "select count(*) from (select from public.comfyui_lora_models limit 1) as seen",
    ),
];

/// Looks as somebody whom nobody knows: the nil UUID is nobody's.
const AS_NOBODY: &str = "\
    begin read only; \
    select set_config('role', 'authenticated', true), set_config('request.jwt.claims', \
      '{\"sub\":\"00000000-0000-0000-0000-000000000000\",\"role\":\"authenticated\"}', true)";

async fn leaking(
    connection: &mut AsyncPgConnection,
    tables: &BTreeSet<String>,
) -> QueryResult<Vec<String>> {
    let mut leaking = Vec::new();
    for (table, sql) in PRIVATE.iter().filter(|(table, _)| tables.contains(*table)) {
        connection.batch_execute(AS_NOBODY).await?;
        let seen: QueryResult<CountRow> = Statement::new(sql).get_result(connection).await;
        connection.batch_execute("rollback").await?;
        // Who may not even ask sees nothing.
        if seen.is_ok_and(|row| row.count > 0) {
            leaking.push((*table).to_owned());
        }
    }
    Ok(leaking)
}

#[derive(QueryableByName)]
struct SessionRow {
    #[diesel(sql_type = Integer)]
    backend: i32,
    #[diesel(sql_type = Nullable<Text>)]
    mark: Option<String>,
}

/// Several transactions, one after the other, in what should be one session.
async fn keeps_session(connection: &mut AsyncPgConnection) -> QueryResult<bool> {
    connection
        .batch_execute("select set_config('atelier.doctor', 'here', false)")
        .await?;
    let mut first = None;
    let mut kept = true;
    for _ in 0..10 {
        let row: SessionRow = Statement::new(
            "select pg_backend_pid() as backend, current_setting('atelier.doctor', true) as mark",
        )
        .get_result(connection)
        .await?;
        kept &= row.mark.as_deref() == Some("here");
        kept &= *first.get_or_insert(row.backend) == row.backend;
    }
    connection.batch_execute("reset atelier.doctor").await?;
    Ok(kept)
}
