use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atelier_domain::graph::GraphWork;
use atelier_domain::ports::{ComfyClient, ComfyError, ComfyEvent, ComfyEvents, IdGen};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::backoff::{Backoff, spread};
use super::mailbox::{Mailbox, Snapshot};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// A socket that lived so long was no failure.
const STEADY: Duration = Duration::from_secs(10);

/// Keeps one socket of a backend open, and hands what it says to whoever
/// follows the prompt it is about.
///
/// Every connection has a client id of its own: a socket that takes over the id
/// of one that is half dead can stay deaf for ever
/// (`reference/comfyui/PROTOCOL.md` section 6).
pub(super) struct EventLink {
    backend: String,
    client: Arc<dyn ComfyClient>,
    ids: Arc<dyn IdGen>,
    routes: Mutex<HashMap<String, Arc<Mailbox>>>,
    live: watch::Sender<Option<Connection>>,
    /// The connection that somebody thinks is deaf.
    doubted: watch::Sender<u64>,
    heard_at: Mutex<Instant>,
}

/// A socket that is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Connection {
    /// The first is 1.
    pub(super) number: u64,
    pub(super) client_id: String,
}

impl EventLink {
    pub(super) fn new(backend: String, client: Arc<dyn ComfyClient>, ids: Arc<dyn IdGen>) -> Self {
        Self {
            backend,
            client,
            ids,
            routes: Mutex::default(),
            live: watch::Sender::new(None),
            doubted: watch::Sender::new(0),
            heard_at: Mutex::new(Instant::now()),
        }
    }

    /// Connects, listens, and connects again, for ever.
    pub(super) async fn run(&self) {
        let mut backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(30));
        let mut number = 0;
        loop {
            match self.connect().await {
                Ok(events) => {
                    number += 1;
                    let opened_at = Instant::now();
                    self.listen(number, events).await;
                    if opened_at.elapsed() >= STEADY {
                        backoff.reset();
                    }
                }
                Err(error) => {
                    tracing::debug!(
                        backend = self.backend,
                        error = &error as &dyn std::error::Error,
                        "no socket to a backend; its runs are followed by asking"
                    );
                }
            }
            sleep(spread(self.ids.as_ref(), backoff.next())).await;
        }
    }

    async fn connect(&self) -> Result<ComfyEvents, ComfyError> {
        timeout(CONNECT_TIMEOUT, self.client.connect_events())
            .await
            .map_err(|late| ComfyError::AnswerLost(late.into()))?
    }

    async fn listen(&self, number: u64, mut events: ComfyEvents) {
        self.set_heard();
        self.live.send_replace(Some(Connection {
            number,
            client_id: events.client_id,
        }));
        let mut doubted = self.doubted.subscribe();
        let draining = async {
            while let Some(Ok(event)) = events.stream.next().await {
                self.set_heard();
                self.route(event);
            }
        };
        tokio::select! {
            () = draining => tracing::info!(backend = self.backend, "the socket to a backend was lost"),
            // The sender lives as long as this link.
            _doubted = doubted.wait_for(|doubted| *doubted == number) => {
                tracing::warn!(backend = self.backend, "the socket to a backend is deaf; connecting anew");
            }
        }
        self.live.send_replace(None);
        for mailbox in self.routes().values() {
            mailbox.nudge();
        }
    }

    fn route(&self, event: ComfyEvent) {
        let Some(prompt_id) = prompt_of(&event) else {
            return;
        };
        let mailbox = self.routes().get(prompt_id).map(Arc::clone);
        if let Some(mailbox) = mailbox {
            mailbox.put(event);
        }
    }

    /// The socket that is open now.
    pub(super) fn live(&self) -> Option<Connection> {
        self.live.borrow().clone()
    }

    /// Waits until a socket is open, for `patience` at the longest.
    pub(super) async fn connected_within(&self, patience: Duration) {
        let mut live = self.live.subscribe();
        // Either way the caller goes on: without a socket it asks more often.
        drop(timeout(patience, live.wait_for(Option::is_some)).await);
    }

    /// Says that connection `number` told nothing of a prompt that ended. One
    /// that has told nobody anything for `silence` is replaced.
    pub(super) fn doubt(&self, number: u64, silence: Duration) {
        let heard_at = *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner);
        if heard_at.elapsed() >= silence {
            self.doubted.send_replace(number);
        }
    }

    /// Begins to collect what is said of a prompt that is, or will be, submitted
    /// under `connection`.
    pub(super) fn follow(
        self: &Arc<Self>,
        prompt_id: &str,
        connection: Option<&Connection>,
    ) -> Follower {
        let mailbox = Arc::new(Mailbox::default());
        self.routes()
            .insert(prompt_id.to_owned(), Arc::clone(&mailbox));
        Follower {
            link: Arc::clone(self),
            prompt_id: prompt_id.to_owned(),
            mailbox,
            connection: connection.map(|connection| connection.number),
        }
    }

    /// Whether somebody here follows this prompt.
    pub(super) fn follows(&self, prompt_id: &str) -> bool {
        self.routes().contains_key(prompt_id)
    }

    fn routes(&self) -> std::sync::MutexGuard<'_, HashMap<String, Arc<Mailbox>>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_heard(&self) {
        *self.heard_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }
}

/// Collects what the link hears of one prompt.
pub(super) struct Follower {
    link: Arc<EventLink>,
    prompt_id: String,
    mailbox: Arc<Mailbox>,
    connection: Option<u64>,
}

impl Follower {
    pub(super) fn prompt_id(&self) -> &str {
        &self.prompt_id
    }

    /// Waits until there may be something new, a lost connection included.
    pub(super) async fn changed(&self) {
        self.mailbox.changed().await;
    }

    pub(super) fn read(&self, work: &GraphWork) -> Snapshot {
        self.mailbox.read(work)
    }

    /// Whether the socket that the prompt's events go to is open.
    pub(super) fn is_linked(&self) -> bool {
        self.connection.is_some()
            && self.connection == self.link.live.borrow().as_ref().map(|live| live.number)
    }

    /// Says that the prompt ended and the socket did not tell.
    pub(super) fn doubt_link(&self, silence: Duration) {
        if let Some(number) = self.connection.filter(|_| self.is_linked()) {
            self.link.doubt(number, silence);
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut routes = self.link.routes();
        // A later follower of the same prompt keeps its own.
        if routes
            .get(&self.prompt_id)
            .is_some_and(|mailbox| Arc::ptr_eq(mailbox, &self.mailbox))
        {
            routes.remove(&self.prompt_id);
        }
    }
}

fn prompt_of(event: &ComfyEvent) -> Option<&str> {
    match event {
        ComfyEvent::QueueRemaining(_) => None,
        ComfyEvent::Started { prompt_id }
        | ComfyEvent::Cached { prompt_id, .. }
        | ComfyEvent::Executing { prompt_id, .. }
        | ComfyEvent::Progress { prompt_id, .. }
        | ComfyEvent::Executed { prompt_id, .. }
        | ComfyEvent::Preview { prompt_id, .. }
        | ComfyEvent::Ended { prompt_id } => Some(prompt_id),
    }
}
