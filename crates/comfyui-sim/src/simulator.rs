//! The simulator as its user sees it: started, asked, restarted, stopped.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::executor;
use crate::faults::FaultsHandle;
use crate::gate::{Gate, Scissors};
use crate::instance::Instance;
use crate::options::SimulatorOptions;
use crate::server::{App, router};
use crate::tally::Tally;

/// How long a restart that was asked for over HTTP waits, so that its answer gets out.
const RESTART_PAUSE: Duration = Duration::from_millis(30);

/// How many connections may wait to be accepted.
const BACKLOG: u32 = 1024;

/// Why a simulator could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address to listen on is no address.
    #[error("{0:?} is no address to listen on, use for example 127.0.0.1:8188")]
    Address(String),
    /// The port is taken, or may not be used.
    #[error("cannot listen on {address}: is another server using this port?")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the operating system says.
        source: io::Error,
    },
    /// A folder could not be made.
    #[error("cannot make the folder {folder}")]
    Folder {
        /// The folder.
        folder: PathBuf,
        /// What the operating system says.
        source: io::Error,
    },
    /// The executor's thread could not be started.
    #[error("cannot start the executor thread")]
    Thread(#[source] io::Error),
}

/// A running simulator. Dropping it stops it without waiting; [`stop`](Self::stop) waits.
#[derive(Debug)]
pub struct Simulator {
    core: Arc<Core>,
}

/// What survives a restart.
#[derive(Debug)]
struct Core {
    options: Arc<SimulatorOptions>,
    faults: FaultsHandle,
    tally: Arc<Tally>,
    address: SocketAddr,
    /// Bound to the address and never listening: while no process has the port, connections are refused and nobody else gets it.
    _reservation: TcpSocket,
    process: Mutex<Option<Process>>,
}

/// What does not survive one.
#[derive(Debug)]
struct Process {
    instance: Arc<Instance>,
    server: JoinHandle<()>,
    executor: std::thread::JoinHandle<()>,
    cut_all: CancellationToken,
}

/// Restarts the simulator from inside one of its own requests.
#[derive(Clone, Debug)]
pub(crate) struct Restarter(Weak<Core>);

impl Restarter {
    /// Restarts after a moment in which the answer to the request can be sent.
    pub(crate) fn restart_soon(&self) {
        let core = Weak::clone(&self.0);
        tokio::spawn(async move {
            tokio::time::sleep(RESTART_PAUSE).await;
            if let Some(core) = core.upgrade()
                && let Err(error) = core.restart().await
            {
                tracing::error!("the simulated restart failed: {error}");
            }
        });
    }
}

impl Simulator {
    /// Makes the folders, opens the port and answers from then on, on the current runtime.
    ///
    /// # Errors
    ///
    /// See [`StartError`].
    pub async fn start(options: SimulatorOptions) -> Result<Self, StartError> {
        let asked: SocketAddr = options
            .listen
            .parse()
            .map_err(|_no_address| StartError::Address(options.listen.clone()))?;
        make_folders(&options)?;
        let taken = |source| StartError::Listen {
            address: asked,
            source,
        };
        let reservation = bind(asked).map_err(taken)?;
        let address = reservation.local_addr().map_err(taken)?;
        let listener = listen(address).map_err(taken)?;
        let core = Arc::new(Core {
            faults: FaultsHandle::new(options.faults.clone()),
            options: Arc::new(options),
            tally: Arc::default(),
            address,
            _reservation: reservation,
            process: Mutex::new(None),
        });
        *core.process.lock().await = Some(core.spawn(listener)?);
        Ok(Self { core })
    }

    /// The base URL, for example `http://127.0.0.1:8188`.
    pub fn url(&self) -> String {
        format!("http://{}", self.core.address)
    }

    /// The address that is listened on; it stays the same over restarts.
    pub fn local_addr(&self) -> SocketAddr {
        self.core.address
    }

    /// The switches for everything that can go wrong.
    pub fn faults(&self) -> FaultsHandle {
        self.core.faults.clone()
    }

    /// How often the execution of this prompt was started, over all restarts.
    pub fn executions(&self, prompt_id: &str) -> u32 {
        self.core.tally.of(prompt_id).executions
    }

    /// How often this prompt was accepted, over all restarts.
    pub fn submissions(&self, prompt_id: &str) -> u32 {
        self.core.tally.of(prompt_id).submissions
    }

    /// Does what killing and restarting the process does (`reference/comfyui/PROTOCOL.md` section 5): queue, running prompt, history and
    /// caches are lost, every connection is cut without a close frame, numbers start at 0, temp files are deleted, output files stay.
    /// Connections are refused for [`restart_downtime`](SimulatorOptions::restart_downtime). Returns when the server answers again.
    ///
    /// # Errors
    ///
    /// [`StartError::Listen`] if the port cannot be had again, which is not expected: it stays reserved meanwhile.
    pub async fn restart(&self) -> Result<(), StartError> {
        self.core.restart().await
    }

    /// Cuts every connection, frees the port, and waits for the executor to end.
    pub async fn stop(self) {
        self.core.kill().await;
    }
}

impl Drop for Simulator {
    fn drop(&mut self) {
        // Whoever holds the lock is restarting, and will find that nobody is left when it is done.
        if let Ok(mut process) = self.core.process.try_lock()
            && let Some(process) = process.take()
        {
            drop(process.end());
        }
    }
}

impl Core {
    async fn restart(self: &Arc<Self>) -> Result<(), StartError> {
        self.kill().await;
        let temp = self.options.base_dir.join("temp");
        if let Err(error) = std::fs::remove_dir_all(&temp) {
            tracing::debug!("cannot empty {}: {error}", temp.display());
        }
        make_folders(&self.options)?;
        tokio::time::sleep(self.options.restart_downtime).await;
        let listener = listen(self.address).map_err(|source| StartError::Listen {
            address: self.address,
            source,
        })?;
        let mut process = self.process.lock().await;
        *process = Some(self.spawn(listener)?);
        Ok(())
    }

    async fn kill(&self) {
        let process = self.process.lock().await.take();
        if let Some(process) = process {
            let (server, executor) = process.end();
            // Only when the task is gone is the port closed. It was aborted, so an error is what is expected.
            if let Ok(()) = server.await {
                tracing::debug!("the server had already ended");
            }
            let ended = tokio::task::spawn_blocking(|| executor.join()).await;
            if !matches!(ended, Ok(Ok(()))) {
                tracing::error!("the executor thread ended with a panic");
            }
        }
    }

    fn spawn(self: &Arc<Self>, listener: TcpListener) -> Result<Process, StartError> {
        let instance = Arc::new(Instance::new(
            Arc::clone(&self.options),
            self.faults.clone(),
            Arc::clone(&self.tally),
        ));
        let executor = executor::start(Arc::clone(&instance)).map_err(StartError::Thread)?;
        let cut_all = CancellationToken::new();
        let gate = Gate::new(listener, cut_all.clone());
        let app = App {
            instance: Arc::clone(&instance),
            restarter: Restarter(Arc::downgrade(self)),
        };
        let service = router(app).into_make_service_with_connect_info::<Scissors>();
        let server = tokio::spawn(async move {
            if let Err(error) = axum::serve(gate, service).await {
                tracing::error!("the server ended: {error}");
            }
        });
        Ok(Process {
            instance,
            server,
            executor,
            cut_all,
        })
    }
}

impl Process {
    /// Ends everything, and hands out what to wait for.
    fn end(self) -> (JoinHandle<()>, std::thread::JoinHandle<()>) {
        self.server.abort();
        self.cut_all.cancel();
        self.instance.queue.close();
        (self.server, self.executor)
    }
}

fn make_folders(options: &SimulatorOptions) -> Result<(), StartError> {
    let base = &options.base_dir;
    let folders = ["models/checkpoints", "output", "temp", "input"].map(|folder| base.join(folder));
    folders
        .iter()
        .chain([&options.loras_dir()])
        .try_for_each(|folder| make_folder(folder))
}

fn make_folder(folder: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(folder).map_err(|source| StartError::Folder {
        folder: folder.to_owned(),
        source,
    })
}

/// Takes a port, even if connections of the previous process are still being closed.
fn bind(address: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    Ok(socket)
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    bind(address)?.listen(BACKLOG)
}
