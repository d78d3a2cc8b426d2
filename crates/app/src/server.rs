//! A running server: its start, its end, and everything between.

mod desk;
mod signals;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::Duration;

use actix_web::web;
use atelier_application::runs::RunLimits;
use atelier_application::transfers::Transferring;
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::Mistakes;
use crate::config::serve::ServeConfig;
use crate::config::shutdown::ShutdownConfig;
use crate::config::work::WorkConfig;
use crate::http::health::Readiness;
use crate::http::{Api, Limits, Listener, Moments};
use crate::open_files;
use crate::wiring::Assembly;

use desk::RunningDesk;

pub use signals::{StopSignal, StopSignals};

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
    #[error("cannot listen on {address} ({variable})")]
    Listen {
        /// The variable that told it.
        variable: &'static str,
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
    /// A second signal, while it was stopping.
    #[error(
        "stopped at once by a second signal ({0}); what was under way goes on when its lease ends"
    )]
    Interrupted(StopSignal),
}

/// A server, a worker, or both, until it is stopped.
#[derive(Debug)]
pub struct Running {
    address: Option<SocketAddr>,
    http: Option<RunningHttp>,
    desk: Option<RunningDesk>,
    worker: Option<RunningWorker>,
    shutdown: ShutdownConfig,
}

/// The listener, and what requests leave behind that only this process can do.
#[derive(Debug)]
struct RunningHttp {
    listener: Listener,
    transferring: Arc<Transferring>,
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
            variable: "ATELIER_LISTEN",
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let shutdown = config.work.shutdown;
        let assembly = Assembly::build(config.work, &io)?;
        let doors = assembly.doors(&config.identity, &io)?;
        let stopping = CancellationToken::new();
        let ports = assembly.ports(doors);
        let transferring = Arc::clone(&ports.transferring);
        let api = Api::new(
            ports,
            Limits {
                lora_bytes: assembly.max_lora_bytes(),
                input_bytes: config.inputs.max_input_bytes,
                unfinished_imports: config.intake.max_unfinished_imports,
                upload_expiry: config.intake.upload_expiry,
                runs: RunLimits {
                    default_timeout: config.runs.default_timeout,
                    max_timeout: config.runs.max_timeout,
                    max_pending: config.runs.max_pending,
                },
                quotas: config.limits.quotas,
                running_runs: assembly.max_running_runs(),
                ..Limits::default()
            },
            Readiness::new(assembly.checks(), stopping.clone()),
            stopping,
            io,
        )
        .observed_by(assembly.observation())
        .with_rate_limit(config.limits.rate_limit)
        .with_cors_origins(config.limits.cors_origins);
        let api = web::Data::new(api);
        let listener = Listener::begin(api, listener, config.server.threads).map_err(failed)?;
        let worker = if config.with_worker {
            RunningWorker::start(&assembly)
        } else {
            RunningWorker::only_learning(&assembly)
        };
        info!(%address, "listening on http://{address}");
        Ok(Self {
            address: Some(address),
            http: Some(RunningHttp {
                listener,
                transferring,
            }),
            desk: None,
            worker: Some(worker),
            shutdown,
        })
    }

    /// Starts a worker alone, which tells about itself on `listen`, if anywhere.
    pub fn start_worker(
        config: WorkConfig,
        listen: Option<SocketAddr>,
    ) -> Result<Self, ServerError> {
        open_files::raise_limit();
        let shutdown = config.shutdown;
        let assembly = Assembly::build(config, &Handle::current())?;
        let desk = listen
            .map(|address| RunningDesk::open(&assembly, address))
            .transpose()?;
        let worker = RunningWorker::start(&assembly);
        info!("working");
        Ok(Self {
            address: desk.as_ref().map(RunningDesk::address),
            http: None,
            desk,
            worker: Some(worker),
            shutdown,
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
        let error = match self.http.as_mut() {
            Some(http) => http.listener.failed().await,
            None => std::future::pending().await,
        };
        self.http = None;
        warn!("the listener ended by itself");
        ServerError::Failed(error)
    }

    /// Goes on until a signal comes or the listener fails, and stops in good order; at once if
    /// another signal comes meanwhile.
    ///
    /// # Errors
    /// [`ServerError::Interrupted`] by the second signal: what was under way is left to the end of
    /// its leases, as after a crash.
    pub async fn until(mut self, signals: &mut StopSignals) -> Result<(), ServerError> {
        let told = tokio::select! {
            signal = signals.next() => Ok(signal),
            error = self.failed() => Err(error),
        };
        let notice = self.shutdown.notice();
        let stopping = async {
            match told {
                Ok(StopSignal::Terminate) => self.leave(notice).await,
                // Somebody waits for it, and no balancer.
                Ok(StopSignal::Interrupt) => self.stop().await,
                Err(error) => self.stop().await.and(Err(error)),
            }
        };
        tokio::select! {
            biased;
            stopped = stopping => stopped,
            signal = signals.next() => Err(ServerError::Interrupted(signal)),
        }
    }

    /// Stops in good order: no new requests, those under way are answered, the worker hands its
    /// runs over. Takes no longer than the configuration allows.
    pub async fn stop(self) -> Result<(), ServerError> {
        self.leave(Duration::ZERO).await
    }

    /// Stops; for as long as `notice`, new requests are taken all the same.
    async fn leave(self, notice: Duration) -> Result<(), ServerError> {
        let begun = Instant::now();
        let moments = Moments {
            closing: begun + notice,
            giving_up: begun + self.shutdown.giving_up(),
            dropping: begun + self.shutdown.dropping(),
        };
        info!("stopping, within {} s", self.shutdown.total().as_secs());
        let http = async {
            match self.http {
                Some(http) => http.stop(moments).await,
                None => Ok(()),
            }
        };
        let worker = async {
            if let Some(worker) = self.worker {
                worker.stop(moments.dropping).await;
            }
        };
        if let Some(desk) = &self.desk {
            desk.drain();
        }
        let (outcome, ()) = tokio::join!(http, worker);
        if let Some(desk) = self.desk {
            desk.close(moments.dropping).await;
        }
        let duration_ms = begun.elapsed().as_millis();
        info!(%duration_ms, "stopped");
        outcome
    }
}

impl RunningHttp {
    async fn stop(self, moments: Moments) -> Result<(), ServerError> {
        let drained = CancellationToken::new();
        let draining = async {
            let outcome = self.listener.drain(moments).await;
            drained.cancel();
            outcome
        };
        let finishing = async {
            // A request that is still answered may begin something.
            drop(timeout_at(moments.giving_up, drained.cancelled()).await);
            let finished = self.transferring.finish_held(moments.giving_up);
            if timeout_at(moments.dropping, finished).await.is_err() {
                warn!("imports were left behind; they fail when their leases end");
            }
        };
        let (outcome, ()) = tokio::join!(draining, finishing);
        outcome.map_err(ServerError::Failed)
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

    async fn stop(mut self, dropping: Instant) {
        self.stop.send_replace(true);
        match timeout_at(dropping, &mut self.task).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "the worker ended badly"),
            Err(_late) => {
                warn!("the worker took too long to end; its runs go on when their leases end");
                self.task.abort();
            }
        }
    }
}
