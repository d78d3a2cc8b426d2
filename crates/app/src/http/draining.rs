//! The end of the listener, so that no request is lost that can be answered.

use std::fmt;
use std::io;
use std::net::TcpListener;
use std::num::NonZeroUsize;
use std::time::Duration;

use actix_server::ServerHandle;
use actix_web::web;
use tokio::task::{JoinError, JoinHandle};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::api::Api;
use super::listening::serve;
use super::seeing_off::SeeingOff;

/// How long whoever has just connected may take to send a request, once nobody
/// else is let in.
const FIRST_REQUEST: Duration = Duration::from_millis(300);

/// How long idle connections take to close, at the least.
const CLOSING: Duration = Duration::from_millis(50);

/// How long what was dropped may take to clear away what it leaves.
const AFTERMATH: Duration = Duration::from_millis(200);

/// When the parts of the end begin.
#[derive(Clone, Copy, Debug)]
pub struct Moments {
    /// Nobody is let in any more.
    pub closing: Instant,
    /// Bodies that are still coming are waited for no longer.
    pub giving_up: Instant,
    /// Whatever still goes on is dropped.
    pub dropping: Instant,
}

/// A listener that answers.
pub struct Listener {
    api: web::Data<Api>,
    /// Another handle of the same socket: with it, nobody is hung up on who
    /// comes when nobody is let in.
    socket: TcpListener,
    server: ServerHandle,
    no_more: CancellationToken,
    task: JoinHandle<io::Result<()>>,
}

impl fmt::Debug for Listener {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Listener").finish_non_exhaustive()
    }
}

impl Listener {
    /// Begins to answer with `api` on `socket`; `threads` of them do, or one a
    /// processor.
    ///
    /// # Errors
    /// What the system says to the socket.
    pub fn begin(
        api: web::Data<Api>,
        socket: TcpListener,
        threads: Option<NonZeroUsize>,
    ) -> io::Result<Self> {
        let no_more = CancellationToken::new();
        let second = socket.try_clone()?;
        let server = serve(web::Data::clone(&api), socket, threads, no_more.clone())?;
        Ok(Self {
            socket: second,
            server: server.handle(),
            task: api.io().spawn(server),
            no_more,
            api,
        })
    }

    /// Comes back when it ends by itself, as it does only when it fails.
    pub async fn failed(&mut self) -> io::Error {
        let ended = flatten((&mut self.task).await);
        ended
            .err()
            .unwrap_or_else(|| io::Error::other("it ended by itself"))
    }

    /// Ends it, at these moments.
    ///
    /// At once it is no longer ready, whoever waits for a run is answered,
    /// whoever follows one is sent away, and each answer is the last of its
    /// connection. Until it closes, it goes on as ever: balancers have not
    /// noticed yet. Then whoever connects is told to go elsewhere, and whatever
    /// is under way goes on to its end, or to that of `moments`.
    ///
    /// # Errors
    /// What the system said to the listener.
    ///
    /// # Cancellation
    /// Dropping the future leaves it as it is; it ends with the runtime.
    pub async fn drain(self, moments: Moments) -> io::Result<()> {
        let Self {
            api,
            socket,
            server,
            no_more,
            mut task,
        } = self;
        api.stopping().cancel();
        sleep_until(moments.closing).await;
        server.pause().await;
        let seeing_off = SeeingOff::begin(socket, &api)?;
        // A request on its way over a new connection would be lost with it.
        sleep(FIRST_REQUEST).await;
        no_more.cancel();
        sleep(CLOSING).await;
        // Its end is that of the task.
        drop(server.stop(true));
        let ended = tokio::select! {
            ended = &mut task => Some(ended),
            () = sleep_until(moments.giving_up) => None,
        };
        api.giving_up().cancel();
        let outcome = if let Some(ended) = ended {
            flatten(ended)
        } else {
            tokio::select! {
                ended = &mut task => flatten(ended),
                () = sleep_until(moments.dropping) => {
                    tracing::warn!("requests took too long to end, and are cut off");
                    task.abort();
                    sleep(AFTERMATH).await;
                    Ok(())
                }
            }
        };
        seeing_off.end().await;
        outcome
    }
}

fn flatten(ended: Result<io::Result<()>, JoinError>) -> io::Result<()> {
    ended.unwrap_or_else(|error| Err(io::Error::other(error)))
}
