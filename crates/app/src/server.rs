//! A running server: its start, its end, and everything between.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use actix_web::web;
use atelier_application::runs::RunLimits;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Mistakes;
use crate::config::serve::ServeConfig;
use crate::config::work::WorkConfig;
use crate::http::health::Readiness;
use crate::http::{self, Api, Limits};
use crate::open_files;
use crate::wiring::Assembly;

/// How old what is known of ComfyUI may get where no worker asks for it.
const CATALOGUE_AGE: Duration = Duration::from_secs(30);

/// Why a server does not run.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A configuration that cannot work.
    #[error(transparent)]
    Configuration(#[from] Mistakes),
    /// An address that cannot be listened on.
    #[error("cannot listen on {address} (ATELIER_LISTEN)")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The listener failed.
    #[error("the server failed")]
    Failed(#[source] io::Error),
    /// Signals cannot be waited for.
    #[error("the signals to stop cannot be waited for")]
    Signals(#[source] io::Error),
}

/// A server, a worker, or both, until it is stopped.
#[derive(Debug)]
pub struct Running {
    address: Option<SocketAddr>,
    stopping: CancellationToken,
    http: Option<JoinHandle<io::Result<()>>>,
    worker: Option<RunningWorker>,
}

#[derive(Debug)]
struct RunningWorker {
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Running {
    /// Starts a server; it listens when this returns.
    #[expect(
        clippy::unused_async,
        reason = "only inside a runtime can it start, and its signature says so"
    )]
    pub async fn start(config: ServeConfig) -> Result<Self, ServerError> {
        open_files::raise_limit();
        let io = Handle::current();
        let listen = config.server.listen;
        let failed = |source| ServerError::Listen {
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let assembly = Assembly::build(config.work, &io)?;
        let verifier = assembly.verifier(&config.identity)?;
        let stopping = CancellationToken::new();
        let api = web::Data::new(Api::new(
            assembly.ports(verifier),
            Limits {
                lora_bytes: assembly.max_lora_bytes(),
                unfinished_imports: config.intake.max_unfinished_imports,
                upload_expiry: config.intake.upload_expiry,
                runs: RunLimits {
                    default_timeout: config.runs.default_timeout,
                    max_timeout: config.runs.max_timeout,
                    max_pending: config.runs.max_pending,
                },
                ..Limits::default()
            },
            Readiness::new(assembly.checks(), stopping.clone()),
            stopping.clone(),
            io.clone(),
        ));
        let server = http::serve(api, listener, config.server.threads).map_err(failed)?;
        let http = io.spawn(server);
        let worker = if config.with_worker {
            RunningWorker::start(&assembly)
        } else {
            RunningWorker::only_learning(&assembly)
        };
        info!(%address, "listening on http://{address}");
        Ok(Self {
            address: Some(address),
            stopping,
            http: Some(http),
            worker: Some(worker),
        })
    }

    /// Starts a worker alone.
    pub fn start_worker(config: WorkConfig) -> Result<Self, ServerError> {
        open_files::raise_limit();
        let assembly = Assembly::build(config, &Handle::current())?;
        let worker = RunningWorker::start(&assembly);
        info!("working");
        Ok(Self {
            address: None,
            stopping: CancellationToken::new(),
            http: None,
            worker: Some(worker),
        })
    }

    /// Where it listens, such as `http://127.0.0.1:8080`; empty for a worker alone.
    pub fn url(&self) -> String {
        self.address
            .map_or_else(String::new, |address| format!("http://{address}"))
    }

    /// Waits for the listener to end by itself, as it does only when it fails; for ever where there
    /// is none.
    pub async fn failed(&mut self) -> ServerError {
        let outcome = match self.http.as_mut() {
            Some(http) => http.await,
            None => std::future::pending().await,
        };
        self.http = None;
        warn!("the listener ended by itself");
        match flatten(outcome) {
            Ok(()) => ServerError::Failed(io::Error::other("it ended by itself")),
            Err(error) => error,
        }
    }

    /// Goes on until it is told to stop or the listener fails.
    pub async fn until(mut self, told: impl Future<Output = ()>) -> Result<(), ServerError> {
        tokio::select! {
            () = told => {
                info!("stopping");
                self.stop().await
            }
            error = self.failed() => {
                self.stop().await?;
                Err(error)
            }
        }
    }

    /// Stops in good order: no new requests, those under way are answered, then the worker hands
    /// its runs over.
    pub async fn stop(mut self) -> Result<(), ServerError> {
        self.stopping.cancel();
        let outcome = match self.http.take() {
            Some(http) => flatten(http.await),
            None => Ok(()),
        };
        if let Some(worker) = self.worker.take() {
            worker.stop().await;
        }
        info!("stopped");
        outcome
    }
}

impl RunningWorker {
    fn start(assembly: &Assembly) -> Self {
        let (stop, stopped) = watch::channel(false);
        let worker = assembly.worker();
        let task = tokio::spawn(worker.run(stopped));
        Self { stop, task }
    }

    /// Runs nothing, and keeps what ComfyUI offers fresh: who takes runs in must know it.
    fn only_learning(assembly: &Assembly) -> Self {
        let (stop, stopped) = watch::channel(false);
        let catalogue = assembly.catalogue();
        let task = tokio::spawn(async move {
            catalogue.keep_fresh(CATALOGUE_AGE, stopped).await;
        });
        Self { stop, task }
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            warn!(%error, "the worker ended badly");
        }
    }
}

fn flatten(outcome: Result<io::Result<()>, tokio::task::JoinError>) -> Result<(), ServerError> {
    outcome
        .unwrap_or_else(|error| Err(io::Error::other(error)))
        .map_err(ServerError::Failed)
}

/// Waits for a signal to stop (`SIGTERM`, Ctrl-C). The handlers stand when this returns: asked for
/// before anything starts, no signal is lost.
pub(crate) fn stop_signal() -> Result<impl Future<Output = ()> + Send, ServerError> {
    use tokio::signal::unix::{SignalKind, signal};

    let mut terminate = signal(SignalKind::terminate()).map_err(ServerError::Signals)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(ServerError::Signals)?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
