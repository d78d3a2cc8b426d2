//! The command line. Every flag is also an environment variable.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory as _, FromArgMatches as _, Parser, Subcommand};
use thiserror::Error;
use uuid::Uuid;

use crate::config::database::MigrateArguments;
use crate::config::identity::IdentityArguments;
use crate::config::logging::LoggingArguments;
use crate::config::observation::WorkerListenArguments;
use crate::config::serve::ServeArguments;
use crate::config::work::WorkArguments;
use crate::config::{Mistakes, SECRET_FILES_HELP, is_set_to_nothing};
use crate::doctor::{self, DoctorArguments, DoctorError};
use crate::healthcheck::{self, HealthcheckArguments, HealthcheckError};
use crate::local::{LocalArguments, LocalError};
use crate::logging::{Chain, Log, LoggingError};
use crate::server::{Running, ServerError, StopSignals};
use crate::wiring::{self, MigrationError, TokenError};
use crate::{http, local, logging, terminal};

/// A multi-user server in front of ComfyUI.
#[derive(Debug, Parser)]
#[command(name = "atelier", version, about, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Starts everything on this machine: database, files, a simulated ComfyUI, the server.
    #[command(after_help = SECRET_FILES_HELP)]
    Local(Box<LocalArguments>),
    /// Serves the API, with a worker in the same process.
    #[command(after_help = SECRET_FILES_HELP)]
    Serve(Box<ServeCommand>),
    /// Works on runs, on any machine that reaches database, object store and ComfyUI.
    #[command(after_help = SECRET_FILES_HELP)]
    Worker(Box<WorkerCommand>),
    /// Brings the database up to date.
    #[command(after_help = SECRET_FILES_HELP)]
    Migrate(Box<MigrateCommand>),
    /// Signs an access token with the configured secret, for local use and tests.
    #[command(after_help = SECRET_FILES_HELP)]
    Token(TokenArguments),
    /// Prints the OpenAPI document.
    Openapi,
    /// Looks at everything that a server needs, and says what is wrong and how to mend it.
    ///
    /// Ends with 1 if a check failed. It writes an object and deletes it; it changes nothing else.
    #[command(after_help = SECRET_FILES_HELP)]
    Doctor(Box<DoctorArguments>),
    /// Asks a server or a worker on this machine whether it lives; ends with 1 if it does not.
    Healthcheck(HealthcheckArguments),
}

#[derive(Debug, Args)]
struct ServeCommand {
    /// Serves the API alone.
    #[arg(long, env = "ATELIER_NO_WORKER")]
    no_worker: bool,
    #[command(flatten)]
    serve: ServeArguments,
    #[command(flatten)]
    logging: LoggingArguments,
}

#[derive(Debug, Args)]
struct WorkerCommand {
    #[command(flatten)]
    work: WorkArguments,
    #[command(flatten)]
    listen: WorkerListenArguments,
    #[command(flatten)]
    logging: LoggingArguments,
}

#[derive(Debug, Args)]
struct MigrateCommand {
    #[command(flatten)]
    database: MigrateArguments,
    #[command(flatten)]
    logging: LoggingArguments,
}

#[derive(Debug, Args)]
struct TokenArguments {
    /// The user that the token stands for.
    #[arg(long, value_name = "UUID")]
    sub: Uuid,
    /// The e-mail address that the token vouches for.
    #[arg(long, value_name = "ADDRESS")]
    email: Option<String>,
    /// How long the token is good: a number and s, m, h or d.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration)]
    ttl: Duration,
    #[command(flatten)]
    identity: IdentityArguments,
}

/// Why a command ended badly.
#[derive(Debug, Error)]
enum CommandError {
    #[error(transparent)]
    Configuration(#[from] Mistakes),
    #[error(transparent)]
    Logging(#[from] LoggingError),
    #[error(transparent)]
    Local(#[from] LocalError),
    #[error(transparent)]
    Server(#[from] ServerError),
    #[error(transparent)]
    Migration(#[from] MigrationError),
    #[error(transparent)]
    Token(#[from] TokenError),
    #[error(transparent)]
    Doctor(#[from] DoctorError),
    #[error(transparent)]
    Healthcheck(#[from] HealthcheckError),
    #[error("the runtime could not be started")]
    Runtime(#[source] std::io::Error),
}

impl CommandError {
    fn exit_code(&self) -> ExitCode {
        match self {
            Self::Server(ServerError::Interrupted(signal))
            | Self::Local(LocalError::Server(ServerError::Interrupted(signal))) => {
                ExitCode::from(signal.exit_code())
            }
            _ => ExitCode::FAILURE,
        }
    }
}

/// The whole program: reads the command line, does what it says, and tells what went wrong.
pub fn main() -> ExitCode {
    match run(command_line().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::warn(&format!("error: {}", Chain(&error)));
            error.exit_code()
        }
    }
}

/// Reads the command line, and the variables that are set to something.
fn command_line() -> Cli {
    let matches = Cli::command()
        .mut_subcommands(|command| {
            command.mut_args(|flag| match flag.get_env() {
                Some(variable) if is_set_to_nothing(variable) => flag.env(None::<&str>),
                _ => flag,
            })
        })
        .get_matches();
    Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn run(command: Command) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(CommandError::Runtime)?;
    let outcome = runtime.block_on(execute(command));
    // Nobody waits for a thread that hangs in a file system.
    runtime.shutdown_background();
    outcome
}

async fn execute(command: Command) -> Result<(), CommandError> {
    match command {
        Command::Local(arguments) => Ok(local::run(*arguments).await?),
        Command::Serve(arguments) => {
            let log = logging::begin(&arguments.logging, "info")?;
            let outcome = serve(*arguments, &log).await;
            log.end().await;
            outcome
        }
        Command::Worker(arguments) => {
            let log = logging::begin(&arguments.logging, "info")?;
            let outcome = work(*arguments, &log).await;
            log.end().await;
            outcome
        }
        Command::Migrate(arguments) => {
            let log = logging::begin(&arguments.logging, "info")?;
            let mut mistakes = Mistakes::default();
            let database = arguments.database.check(&mut mistakes);
            let database = log.and(mistakes.check(database))?;
            let outcome = wiring::migrate(&database).await;
            log.end().await;
            terminal::tell(&outcome?);
            Ok(())
        }
        Command::Token(arguments) => {
            let mut mistakes = Mistakes::default();
            let identity = arguments.identity.check(&mut mistakes);
            let identity = mistakes.check(identity)?;
            let email = arguments.email.as_deref();
            terminal::tell(&wiring::token(
                &identity,
                arguments.sub,
                email,
                arguments.ttl,
            )?);
            Ok(())
        }
        Command::Openapi => {
            terminal::tell(&http::openapi::document_text());
            Ok(())
        }
        Command::Doctor(arguments) => Ok(doctor::run(*arguments).await?),
        Command::Healthcheck(arguments) => {
            terminal::tell(&healthcheck::run(arguments).await?);
            Ok(())
        }
    }
}

async fn serve(arguments: ServeCommand, log: &Log) -> Result<(), CommandError> {
    let mut signals = StopSignals::listen().map_err(ServerError::Signals)?;
    let config = log.and(arguments.serve.check(!arguments.no_worker))?;
    let running = Running::start(config).await?;
    Ok(running.until(&mut signals).await?)
}

async fn work(arguments: WorkerCommand, log: &Log) -> Result<(), CommandError> {
    let mut mistakes = Mistakes::default();
    let work = arguments.work.check(&mut mistakes);
    let listen = arguments.listen.check(&mut mistakes);
    let (work, listen) = log.and(mistakes.check(work.zip(listen)))?;
    let mut signals = StopSignals::listen().map_err(ServerError::Signals)?;
    let running = Running::start_worker(work, listen)?;
    Ok(running.until(&mut signals).await?)
}

/// Reads a time such as `90s`, `30m`, `1h` or `7d`.
fn duration(text: &str) -> Result<Duration, String> {
    let told = || format!("`{text}` is not a time such as 90s, 30m, 1h or 7d");
    let unit = text.chars().last().ok_or_else(told)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return Err(told()),
    };
    let count: u64 = text
        .strip_suffix(unit)
        .and_then(|count| count.parse().ok())
        .ok_or_else(told)?;
    count
        .checked_mul(seconds)
        .map(Duration::from_secs)
        .ok_or_else(told)
}

/// All commands, for tests of what they have in common.
#[cfg(test)]
pub(crate) fn command_for_tests() -> clap::Command {
    Cli::command()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_makes_sense() {
        Cli::command().debug_assert();
    }

    fn serve_arguments(arguments: &[&str]) -> ServeArguments {
        let arguments = ["atelier", "serve"].iter().chain(arguments);
        match Cli::try_parse_from(arguments).map(|cli| cli.command) {
            Ok(Command::Serve(command)) => command.serve,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_mistake_is_told_at_once_and_no_secret_with_it() {
        let arguments = serve_arguments(&[
            "--listen=here",
            "--max-lora-bytes=-1",
            "--http-threads=0",
            "--database-url=mysql://root:hunter2@host/db",
            "--database-connections=x",
            "--blob-url=ftp://host",
            "--comfyui-url=comfyui:8188",
            "--comfyui-web-user=",
            "--comfyui-web-password=hunter2",
            "--comfyui-web-token=",
            "--max-in-flight=0",
            "--supabase-jwt-secret=",
            "--lease-seconds=1",
            "--backend-patience-seconds=0",
            "--affinity-seconds=61",
            "--run-timeout-seconds=0",
            "--max-run-timeout-seconds=0",
            "--max-pending-runs=0",
            "--max-unfinished-imports=0",
            "--upload-expiry-seconds=0",
            "--orphan-age-seconds=0",
            "--lora-quota-bytes=0",
            "--lora-keep-free-bytes=x",
        ]);

        let told = arguments
            .check(true)
            .expect_err("all of it is wrong")
            .to_string();

        for variable in [
            "ATELIER_LISTEN",
            "ATELIER_MAX_LORA_BYTES",
            "ATELIER_HTTP_THREADS",
            "DATABASE_URL",
            "ATELIER_DATABASE_CONNECTIONS",
            "BLOB_URL",
            "COMFYUI_URL",
            "COMFYUI_WEB_USER",
            "ATELIER_MAX_IN_FLIGHT",
            "SUPABASE_JWT_SECRET",
            "ATELIER_LEASE_SECONDS",
            "ATELIER_BACKEND_PATIENCE_SECONDS",
            "ATELIER_AFFINITY_SECONDS",
            "ATELIER_RUN_TIMEOUT_SECONDS",
            "ATELIER_MAX_RUN_TIMEOUT_SECONDS",
            "ATELIER_MAX_PENDING_RUNS",
            "ATELIER_MAX_UNFINISHED_IMPORTS",
            "ATELIER_UPLOAD_EXPIRY_SECONDS",
            "ATELIER_ORPHAN_AGE_SECONDS",
            "ATELIER_LORA_QUOTA_BYTES",
            "ATELIER_LORA_KEEP_FREE_BYTES",
        ] {
            assert!(
                told.contains(&format!("\n  {variable}: ")),
                "{variable}: {told}"
            );
        }
        assert!(!told.contains("hunter2"), "{told}");
    }

    #[test]
    fn the_help_of_every_command_names_the_variable_of_every_flag() {
        for command in Cli::command().get_subcommands_mut() {
            let name = command.get_name().to_owned();
            let flags = command
                .get_arguments()
                .filter(|flag| flag.get_env().is_none());
            let without: Vec<_> = flags.map(|flag| flag.get_id().to_string()).collect();
            let allowed: &[&str] = match name.as_str() {
                // What is asked for once, not configured.
                "token" => &["sub", "email", "ttl"],
                "healthcheck" => &["url", "worker"],
                "local" => &["smoke"],
                "doctor" => &["json", "worker"],
                _ => &[],
            };
            assert_eq!(without, allowed, "{name}");
        }
    }

    #[test]
    fn times_are_read_with_their_unit() {
        assert_eq!(duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("1h"), Ok(Duration::from_hours(1)));
        for text in ["", "h", "1", "1y", "-1h", "99999999999999999999d"] {
            assert!(duration(text).is_err(), "{text}");
        }
    }
}
