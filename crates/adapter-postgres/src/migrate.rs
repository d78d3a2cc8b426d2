//! Brings a database to the schema that this version needs.

use std::fmt;

use diesel::QueryableByName;
use diesel::sql_types::{Array, Bool, Text};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl, SimpleAsyncConnection};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use crate::connect::Connector;
use crate::options::{PgOpenError, PgOptions};
use crate::statement::Statement;

/// The migrations of the folder `migrations/`, in the form of diesel.
///
/// Public for tools and tests; applications call [`migrate`].
pub const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// One migrator at a time; the number says nothing.
const LOCK: &str = "SELECT pg_advisory_lock(7310033187236251)";

/// What [`migrate`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MigrationReport {
    /// The migrations that were applied now, oldest first.
    pub applied: Vec<String>,
    /// Whether the password of `atelier_app` was set.
    pub password_set: bool,
}

/// Why a database could not be migrated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// The options cannot work.
    #[error(transparent)]
    Options(#[from] PgOpenError),
    /// The database cannot be reached with this address.
    #[error("cannot connect to the database: {0}")]
    Connect(String),
    /// The login may not do what the migrations need.
    #[error(
        "the role {role} may not migrate this database: {}; use the database's owner (on Supabase: postgres)",
        lacks.join("; ")
    )]
    Privileges {
        /// Who logged in.
        role: String,
        /// What is missing, in words.
        lacks: Vec<String>,
    },
    /// A migration failed; it and those after it left nothing behind.
    #[error("a migration failed: {0}")]
    Migration(String),
    /// The password cannot be set.
    #[error("cannot set the password of atelier_app: {0}")]
    Password(String),
    /// The thread that migrates ended early.
    #[error("the migration was stopped: {0}")]
    Stopped(String),
}

/// A password, kept out of logs.
struct Secret(String);

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// Runs the migrations that the database lacks, under a lock: any number of callers may do so at once.
///
/// `options.url` must be the address of the database's owner: a superuser on a bare server, `postgres` on Supabase.
/// With `app_password`, the role `atelier_app`, which the server logs in as, gets that password; only its SCRAM verifier
/// is sent, so that no log holds it.
///
/// # Errors
/// [`MigrateError`] says what to do. A failed migration is rolled back.
pub async fn migrate(
    options: &PgOptions,
    app_password: Option<String>,
) -> Result<MigrationReport, MigrateError> {
    let connector = Connector::new(options)?;
    let password = app_password.map(Secret);
    // Diesel's harness blocks its thread, which only a multi-threaded runtime permits: so it gets one of its own,
    // whatever runtime the caller is on.
    tokio::task::spawn_blocking(move || {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| MigrateError::Stopped(error.to_string()))?
            .block_on(run(connector, password))
    })
    .await
    .map_err(|error| MigrateError::Stopped(error.to_string()))?
}

async fn run(
    connector: Connector,
    password: Option<Secret>,
) -> Result<MigrationReport, MigrateError> {
    let mut connection = connector
        .connect()
        .await
        .map_err(|error| MigrateError::Connect(error.to_string()))?;
    // A person waits for this, not a request; and the lock below is waited for.
    connection
        .batch_execute("SET statement_timeout = 0; SET lock_timeout = 0")
        .await
        .map_err(failed)?;
    connection.batch_execute(LOCK).await.map_err(failed)?;

    let mut harness = AsyncMigrationHarness::new(connection);
    let is_pending = harness
        .has_pending_migration(MIGRATIONS)
        .map_err(|error| MigrateError::Migration(error.to_string()));
    let mut connection = harness.into_inner();
    let mut applied = Vec::new();
    // Even to look takes a right: to make diesel's own table.
    if !matches!(is_pending, Ok(false)) {
        check_privileges(&mut connection).await?;
        is_pending?;
        let mut harness = AsyncMigrationHarness::new(connection);
        applied = harness
            .run_pending_migrations(MIGRATIONS)
            .map_err(|error| MigrateError::Migration(error.to_string()))?
            .iter()
            .map(ToString::to_string)
            .collect();
        connection = harness.into_inner();
    }
    let password_set = password.is_some();
    if let Some(Secret(password)) = password {
        set_password(&mut connection, &password).await?;
    }
    Ok(MigrationReport {
        applied,
        password_set,
    })
}

#[expect(
    clippy::needless_pass_by_value,
    reason = "this is what map_err hands over"
)]
fn failed(error: diesel::result::Error) -> MigrateError {
    MigrateError::Migration(error.to_string())
}

async fn set_password(
    connection: &mut AsyncPgConnection,
    password: &str,
) -> Result<(), MigrateError> {
    // The verifier holds letters, digits, and "$:+/=-": nothing that a literal would have to escape.
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    connection
        .batch_execute(&format!("ALTER ROLE atelier_app PASSWORD '{verifier}'"))
        .await
        .map_err(|error| MigrateError::Password(error.to_string()))
}

#[expect(
    clippy::struct_excessive_bools,
    reason = "a row of answers to yes-or-no questions"
)]
#[derive(QueryableByName)]
struct Privileges {
    #[diesel(sql_type = Text)]
    role: String,
    #[diesel(sql_type = Bool)]
    superuser: bool,
    #[diesel(sql_type = Bool)]
    bypasses: bool,
    #[diesel(sql_type = Bool)]
    creates_roles: bool,
    #[diesel(sql_type = Bool)]
    creates_schemas: bool,
    #[diesel(sql_type = Bool)]
    creates_tables: bool,
    #[diesel(sql_type = Array<Text>)]
    missing_roles: Vec<String>,
}

const PRIVILEGES: &str = "\
    select me.rolname::text as role, me.rolsuper as superuser, me.rolsuper or me.rolbypassrls as bypasses, \
      me.rolsuper or me.rolcreaterole as creates_roles, \
      has_database_privilege(current_database(), 'CREATE') as creates_schemas, \
      has_schema_privilege('public', 'CREATE') as creates_tables, \
      array(select name from unnest(array['anon', 'authenticated', 'service_role', 'atelier_writer', 'atelier_app']) \
        as wanted (name) where not exists (select from pg_roles where rolname = name)) as missing_roles \
    from pg_roles as me where me.rolname = current_user";

/// Finds out beforehand, because Postgres names one missing right at a time, and none of the reasons.
async fn check_privileges(connection: &mut AsyncPgConnection) -> Result<(), MigrateError> {
    let mine: Privileges = Statement::new(PRIVILEGES)
        .get_result(connection)
        .await
        .map_err(failed)?;
    let mut lacks = Vec::new();
    if !mine.bypasses {
        lacks.push(
            "it must be a superuser or have BYPASSRLS, because functions that it will own see every row".to_owned(),
        );
    }
    let missing = mine.missing_roles.join(", ");
    if !mine.missing_roles.is_empty() && !mine.creates_roles {
        lacks.push(format!(
            "it must have CREATEROLE to create the missing roles {missing}"
        ));
    }
    let needs_superuser = mine.missing_roles.iter().any(|name| name == "service_role");
    if needs_superuser && !mine.superuser && mine.creates_roles && !mine.bypasses {
        lacks.push("it must be a superuser to create service_role with BYPASSRLS".to_owned());
    }
    if !mine.creates_schemas {
        lacks.push("it must have CREATE on the database".to_owned());
    }
    if !mine.creates_tables {
        lacks.push("it must have CREATE on schema public".to_owned());
    }
    if lacks.is_empty() {
        Ok(())
    } else {
        Err(MigrateError::Privileges {
            role: mine.role,
            lacks,
        })
    }
}
