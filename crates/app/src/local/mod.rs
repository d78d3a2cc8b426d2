//! `atelier local`: everything on this machine, with no configuration.
//!
//! Every variable that is set, and `atelier.toml`, is honoured; what is missing is filled in: a private Postgres in the
//! data directory, a folder for objects, a simulated ComfyUI, a secret for tokens, a demo user. On
//! an empty data directory a sample job is run, over HTTP, as any client would.

mod backend;
mod data_dir;
mod database;
mod sample;
mod sample_lora;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use thiserror::Error;

use crate::config::Mistakes;
use crate::config::comfyui::ComfyuiConfig;
use crate::config::database::MigrateArguments;
use crate::config::logging::LoggingArguments;
use crate::config::serve::ServeArguments;
use crate::logging::{self, Chain, LoggingError};
use crate::server::{Running, ServerError, StopSignals};
use crate::terminal;
use crate::wiring::{self, MigrationError, TokenError};

use backend::LocalBackend;
use data_dir::DataDir;
use database::LocalDatabase;
use sample::{SampleError, SampleJob};

/// How long the demo user's token is good.
const TOKEN_LIFE: Duration = Duration::from_hours(7 * 24);
/// How long the sample job may take: a real ComfyUI loads its checkpoint first.
const SAMPLE_PATIENCE: Duration = Duration::from_mins(10);

/// What `local` can be told.
#[derive(Clone, Debug, Args)]
pub(crate) struct LocalArguments {
    /// Where everything is kept.
    #[arg(
        long,
        env = "ATELIER_DATA_DIR",
        value_name = "FOLDER",
        default_value = ".atelier"
    )]
    data_dir: PathBuf,
    /// Runs the sample job, whatever is there already, and exits; on a free port if no address is
    /// given.
    #[arg(long)]
    smoke: bool,
    #[command(flatten)]
    serve: ServeArguments,
    /// Postgres, as the owner of the tables, where `DATABASE_URL` is given too.
    #[arg(
        long,
        env = "ATELIER_MIGRATE_URL",
        hide_env_values = true,
        value_name = "URL"
    )]
    migrate_url: Option<String>,
    #[command(flatten)]
    logging: LoggingArguments,
}

/// Why `local` ended badly.
#[derive(Debug, Error)]
pub(crate) enum LocalError {
    /// A configuration that cannot work.
    #[error(transparent)]
    Configuration(#[from] Mistakes),
    /// The log.
    #[error(transparent)]
    Logging(#[from] LoggingError),
    /// The data directory.
    #[error("the data directory cannot be used: {path}")]
    DataDir {
        /// The file or folder at fault.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The private Postgres.
    #[error("the private Postgres did not start")]
    Database(#[source] atelier_local_postgres::Error),
    /// The tables.
    #[error(transparent)]
    Migration(#[from] MigrationError),
    /// The simulated ComfyUI.
    #[error("the simulated ComfyUI did not start")]
    Simulator(#[source] atelier_comfyui_sim::StartError),
    /// The ComfyUI that was named.
    #[error("ComfyUI at {url} cannot be used: {reason}")]
    Comfyui {
        /// Where it is.
        url: String,
        /// What is wrong.
        reason: String,
    },
    /// The ComfyUI that was named has no model, or several have none in common.
    #[error(
        "ComfyUI has no checkpoint, or not the same on all backends; put a Stable Diffusion 1.5 \
         one into its models/checkpoints"
    )]
    NoCheckpoint,
    /// The server.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// The demo user's token.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The sample job.
    #[error("the sample job did not end well: {0}")]
    Sample(String),
    /// A task that panicked.
    #[error("a part of the start broke off")]
    BrokenOff(#[source] tokio::task::JoinError),
}

/// Starts everything, and goes on until it is told to stop; with `--smoke`, until the sample job
/// is done.
pub(crate) async fn run(arguments: LocalArguments) -> Result<(), LocalError> {
    let log = logging::begin(&arguments.logging, "warn")?;
    log.and(Ok(()))?;
    let mut signals = StopSignals::listen().map_err(ServerError::Signals)?;
    let mut parts = Parts::default();
    let outcome = tokio::select! {
        outcome = work(arguments, &mut parts) => outcome,
        _signal = signals.next() => {
            terminal::tell("stopping");
            Ok(())
        }
    };
    // Whatever happened, what was started is stopped, from the outside in.
    let outcome = tokio::select! {
        biased;
        stopped = parts.stop() => outcome.and(stopped),
        second = signals.next() => Err(ServerError::Interrupted(second).into()),
    };
    log.end().await;
    outcome
}

/// What was started so far.
#[derive(Default)]
struct Parts {
    database: Option<LocalDatabase>,
    backend: Option<LocalBackend>,
    server: Option<Running>,
}

impl Parts {
    async fn stop(self) -> Result<(), LocalError> {
        let server = match self.server {
            Some(server) => server.stop().await.map_err(LocalError::from),
            None => Ok(()),
        };
        if let Some(backend) = self.backend {
            backend.stop().await;
        }
        let database = match self.database {
            Some(database) => database.stop().await,
            None => Ok(()),
        };
        server.and(database)
    }
}

async fn work(mut arguments: LocalArguments, parts: &mut Parts) -> Result<(), LocalError> {
    let smoke = arguments.smoke;
    let data_dir = DataDir::open(&arguments.data_dir)?;
    terminal::tell(&format!("data directory: {}", data_dir.path().display()));

    start_database(&mut arguments, &data_dir, parts).await?;
    start_simulator(&mut arguments, &data_dir, parts).await?;
    if arguments.serve.work.blob.given_url().is_none() {
        arguments.serve.work.blob.blob_url = Some(data_dir.objects_url()?);
    }
    if !arguments.serve.identity.has_secret() {
        arguments.serve.identity.supabase_jwt_secret = Some(data_dir.jwt_secret()?);
    }
    if smoke && arguments.serve.server.given_listen().is_none() {
        // Nobody else needs the address: it must not fail for a port that is taken.
        arguments.serve.server.listen = Some("127.0.0.1:0".to_owned());
    }
    let config = arguments.serve.check(true)?;
    let checkpoint = if parts.backend.is_some() {
        Some(backend::CHECKPOINT.to_owned())
    } else {
        checkpoint_of(&config.work.comfyui, smoke).await?
    };
    let user = data_dir.demo_user()?;
    let token = wiring::token(&config.identity, user, None, TOKEN_LIFE)?;
    let server = Running::start(config).await?;
    let url = server.url();
    let server = parts.server.insert(server);
    terminal::tell(&format!("server: {url}"));

    if let Some(checkpoint) = checkpoint
        && (smoke || !data_dir.sample_is_done())
    {
        let job = SampleJob {
            client: reqwest::Client::builder()
                .no_proxy()
                .build()
                .map_err(|error| LocalError::Sample(Chain(&error).to_string()))?,
            server: url.clone(),
            token: token.clone(),
            checkpoint,
            pictures: data_dir.path().join("pictures"),
            patience: SAMPLE_PATIENCE,
        };
        run_sample(&job, &data_dir, smoke).await?;
    }
    if smoke {
        return Ok(());
    }
    greet(&url, &token);
    Err(server.failed().await.into())
}

/// Starts a private Postgres unless one is named, and brings the tables up to date.
async fn start_database(
    arguments: &mut LocalArguments,
    data_dir: &DataDir,
    parts: &mut Parts,
) -> Result<(), LocalError> {
    let mut owner_url = arguments.migrate_url.take();
    if !arguments.serve.work.database.is_url_given() {
        let database = LocalDatabase::start(data_dir.path().join("postgres")).await?;
        arguments.serve.work.database.database_url = Some(database.application_url());
        owner_url = Some(database.owner_url());
        parts.database = Some(database);
    }
    match owner_url {
        Some(url) => migrate(url, arguments).await,
        None => Ok(()),
    }
}

/// Starts a simulated ComfyUI unless one is named.
async fn start_simulator(
    arguments: &mut LocalArguments,
    data_dir: &DataDir,
    parts: &mut Parts,
) -> Result<(), LocalError> {
    let comfyui = &mut arguments.serve.work.comfyui;
    if comfyui.is_told() {
        return Ok(());
    }
    let base_dir = data_dir.path().join("comfyui");
    let backend = LocalBackend::start(base_dir, comfyui.comfyui_loras_dir.take()).await?;
    terminal::tell(&format!("ComfyUI: a simulator at {}", backend.url()));
    comfyui.comfyui_url = Some(backend.url());
    comfyui.comfyui_loras_dir = Some(backend.loras_dir());
    parts.backend = Some(backend);
    Ok(())
}

/// The checkpoint to sample with on the ComfyUI that was named. Without one there is no sample
/// job, which only `--smoke` minds.
async fn checkpoint_of(comfyui: &ComfyuiConfig, smoke: bool) -> Result<Option<String>, LocalError> {
    for backend in &comfyui.backends {
        terminal::tell(&format!("ComfyUI: {} at {}", backend.name, backend.url));
    }
    match backend::first_checkpoint(comfyui).await {
        Ok(checkpoint) => Ok(Some(checkpoint)),
        Err(error) if smoke => Err(error),
        Err(error) => {
            terminal::warn(&format!("no sample job: {}", Chain(&error)));
            Ok(None)
        }
    }
}

async fn migrate(url: String, arguments: &LocalArguments) -> Result<(), LocalError> {
    let mut mistakes = Mistakes::default();
    let database = MigrateArguments {
        migrate_url: Some(url),
        app_password: None,
        database_root_certificate: arguments
            .serve
            .work
            .database
            .database_root_certificate
            .clone(),
    }
    .check(&mut mistakes);
    let told = wiring::migrate(&mistakes.check(database)?).await?;
    terminal::tell(&format!("database: {told}"));
    Ok(())
}

/// A sample job that fails ends `--smoke`; otherwise it is told, and the server goes on.
async fn run_sample(job: &SampleJob, data_dir: &DataDir, smoke: bool) -> Result<(), LocalError> {
    terminal::tell("sample job:");
    let outcome = job.run(&|step| terminal::tell(&format!("  {step}"))).await;
    match outcome {
        Ok(_picture) => data_dir.note_sample_done(),
        Err(error) if smoke => Err(LocalError::Sample(told(&error))),
        Err(error) => {
            terminal::warn(&format!(
                "the sample job did not end well: {}",
                told(&error)
            ));
            Ok(())
        }
    }
}

fn told(error: &SampleError) -> String {
    Chain(error).to_string()
}

fn greet(url: &str, token: &str) {
    terminal::tell(&format!(
        "\nAtelier is ready at {url} (its API: {url}/docs). Ctrl-C stops it.\n\n\
         export TOKEN={token}\n\n\
         curl -H \"Authorization: Bearer $TOKEN\" {url}/api/v1/comfyui/workflows"
    ));
}
