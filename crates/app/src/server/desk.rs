use std::io;
use std::net::{SocketAddr, TcpListener};

use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::ServerError;
use crate::config::observation::WORKER_LISTEN;
use crate::http::health::Readiness;
use crate::http::{WorkerDesk, serve_worker};
use crate::wiring::Assembly;

/// Where a worker tells about itself.
#[derive(Debug)]
pub(super) struct RunningDesk {
    address: SocketAddr,
    draining: CancellationToken,
    closing: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl RunningDesk {
    pub(super) fn open(assembly: &Assembly, listen: SocketAddr) -> Result<Self, ServerError> {
        let failed = |source| ServerError::Listen {
            variable: WORKER_LISTEN,
            address: listen,
            source,
        };
        let listener = TcpListener::bind(listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let draining = CancellationToken::new();
        let closing = CancellationToken::new();
        let desk = WorkerDesk {
            readiness: Readiness::new(assembly.checks(), draining.clone()),
            observation: assembly.observation(),
        };
        let server = serve_worker(desk, listener, closing.clone()).map_err(failed)?;
        info!(%address, "telling about this worker on http://{address}");
        Ok(Self {
            address,
            draining,
            closing,
            task: tokio::spawn(server),
        })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The worker is no longer ready; whoever asks is told so.
    pub(super) fn drain(&self) {
        self.draining.cancel();
    }

    /// Nobody is answered any more.
    pub(super) async fn close(mut self, dropping: Instant) {
        self.closing.cancel();
        match timeout_at(dropping, &mut self.task).await {
            Ok(Ok(Ok(()))) => {}
            Ok(Ok(Err(error))) => warn!(%error, "the worker's listener ended badly"),
            Ok(Err(error)) => warn!(%error, "the worker's listener broke off"),
            Err(_late) => self.task.abort(),
        }
    }
}
