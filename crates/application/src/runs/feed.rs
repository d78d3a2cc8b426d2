//! One reader of a run's new events for everybody who follows it.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::{RunId, UserId};
use atelier_domain::ports::{RepoError, RunRepo, RunSignals, RunTopic, SignalStream};
use atelier_domain::run::RunEvent;
use futures_util::StreamExt as _;
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};

use super::follow::final_status;

/// How many events are read at once.
pub(super) const PAGE: u16 = 200;

/// How many events a feed keeps for followers that are a little behind.
const KEPT: usize = 512;

/// How long a signal may be missed before events are read again anyway.
const BACKSTOP: Duration = Duration::from_secs(15);

/// The same where no signals come at all.
const BACKSTOP_WITHOUT_SIGNALS: Duration = Duration::from_secs(2);

/// The first pause after something failed; it doubles up to the last.
pub(super) const FIRST_PAUSE: Duration = Duration::from_millis(250);
pub(super) const LAST_PAUSE: Duration = Duration::from_secs(4);

/// How many connections to the database followers take at once: requests need
/// some too.
const READS_AT_ONCE: usize = 4;

/// Whether there may be another page.
pub(super) fn is_full(page: &[RunEvent]) -> bool {
    page.len() >= usize::from(PAGE)
}

/// A person and a run: a run is read as the person who follows it.
type Key = (UserId, RunId);

/// The feeds of everybody who follows a run in this process.
pub(super) struct Feeds {
    runs: Arc<dyn RunRepo>,
    signals: Arc<dyn RunSignals>,
    io: Handle,
    reads: Semaphore,
    open: Mutex<HashMap<Key, Arc<Feed>>>,
}

impl Feeds {
    pub(super) fn new(runs: Arc<dyn RunRepo>, signals: Arc<dyn RunSignals>, io: Handle) -> Self {
        Self {
            runs,
            signals,
            io,
            reads: Semaphore::new(READS_AT_ONCE),
            open: Mutex::default(),
        }
    }

    pub(super) fn runs(&self) -> &dyn RunRepo {
        self.runs.as_ref()
    }

    /// How many there are.
    pub(super) fn open(&self) -> usize {
        self.registry().len()
    }

    fn registry(&self) -> MutexGuard<'_, HashMap<Key, Arc<Feed>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a page of a run's events, as soon as it is this reader's turn.
    pub(super) async fn page(
        &self,
        actor: &Actor,
        id: RunId,
        after: i64,
    ) -> Result<Option<Vec<RunEvent>>, RepoError> {
        // Nobody closes the semaphore.
        let _turn = self.reads.acquire().await;
        self.runs.events(actor, id, after, PAGE).await
    }

    /// Joins the run's feed, or begins one that reads on after `after`.
    pub(super) fn subscribe(
        self: &Arc<Self>,
        actor: &Actor,
        id: RunId,
        after: i64,
    ) -> Subscription {
        let key = (actor.user_id(), id);
        let mut registry = self.registry();
        if let Some(feed) = registry.get(&key) {
            return Subscription::to(feed);
        }
        let feed = Arc::new(Feed::after(after));
        // Before the reader is there, which ends when nobody listens.
        let subscription = Subscription::to(&feed);
        registry.insert(key, Arc::clone(&feed));
        drop(registry);
        let reader = Reader {
            feeds: Arc::clone(self),
            actor: actor.clone(),
            key,
            feed,
        };
        self.io.spawn(reader.run());
        subscription
    }
}

/// The newest events of one run.
struct Feed {
    ring: Mutex<Ring>,
    changed: watch::Sender<()>,
}

struct Ring {
    /// In order.
    events: VecDeque<Arc<RunEvent>>,
    /// The sequence of the event before the first of them.
    before: i64,
    /// The sequence up to which everything was read.
    last: i64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// More may come.
    Open,
    /// Nothing comes any more.
    Over,
    /// The reader is gone before its time.
    Broken,
}

impl Feed {
    fn after(last: i64) -> Self {
        let ring = Ring {
            events: VecDeque::new(),
            before: last,
            last,
            state: State::Open,
        };
        Self {
            ring: Mutex::new(ring),
            changed: watch::Sender::new(()),
        }
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn last(&self) -> i64 {
        self.ring().last
    }

    fn append(&self, page: Vec<RunEvent>) {
        if page.is_empty() {
            return;
        }
        let mut ring = self.ring();
        for event in page {
            ring.last = event.sequence;
            if final_status(&event).is_some() {
                ring.state = State::Over;
            }
            if ring.events.len() == KEPT
                && let Some(dropped) = ring.events.pop_front()
            {
                ring.before = dropped.sequence;
            }
            ring.events.push_back(Arc::new(event));
        }
        drop(ring);
        self.changed.send_replace(());
    }

    /// Ends the feed, unless it has ended.
    fn end(&self, state: State) {
        let mut ring = self.ring();
        if ring.state == State::Open {
            ring.state = state;
        }
        drop(ring);
        self.changed.send_replace(());
    }
}

/// What a follower finds in a feed.
pub(super) enum Taken {
    /// The next event.
    Event(Arc<RunEvent>),
    /// Nothing yet.
    Nothing,
    /// The next event is not kept any more, or was never: it is in the store.
    Behind,
    /// Nothing comes any more.
    Over,
    /// The feed is broken; another one may be begun.
    Broken,
}

/// One follower's place at a feed. The feed ends with the last of them.
pub(super) struct Subscription {
    feed: Arc<Feed>,
    changed: watch::Receiver<()>,
}

impl Subscription {
    fn to(feed: &Arc<Feed>) -> Self {
        Self {
            changed: feed.changed.subscribe(),
            feed: Arc::clone(feed),
        }
    }

    /// The event after `after`, where it is kept.
    pub(super) fn take(&mut self, after: i64) -> Taken {
        // What changes from here on is news to `changed`.
        self.changed.borrow_and_update();
        let ring = self.feed.ring();
        if after < ring.before {
            return Taken::Behind;
        }
        let next = ring.events.partition_point(|event| event.sequence <= after);
        match (ring.events.get(next), ring.state) {
            (Some(event), _) => Taken::Event(Arc::clone(event)),
            (None, State::Open) => Taken::Nothing,
            (None, State::Over) => Taken::Over,
            (None, State::Broken) => Taken::Broken,
        }
    }

    /// Waits until there may be something that the last look did not see.
    pub(super) async fn changed(&mut self) {
        // The sender lives as long as the feed, which is held here.
        let _alive = self.changed.changed().await;
    }
}

/// The one that reads for a feed.
struct Reader {
    feeds: Arc<Feeds>,
    actor: Actor,
    key: Key,
    feed: Arc<Feed>,
}

impl Reader {
    async fn run(self) {
        let (_, id) = self.key;
        // Watching begins before reading: a change between the two would be missed.
        let mut signals = Some(self.feeds.signals.watch(RunTopic::Run(id)));
        let mut pause = FIRST_PAUSE;
        while self.feed.ring().state == State::Open {
            let wait = match self.catch_up(id).await {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    BACKSTOP
                }
                Err(error) => {
                    tracing::debug!(run.id = %id, %error, "events cannot be read just now");
                    let wait = pause;
                    pause = (pause * 2).min(LAST_PAUSE);
                    wait
                }
            };
            if self.feed.ring().state != State::Open {
                return;
            }
            tokio::select! {
                () = woken(&mut signals, wait) => {}
                () = self.feed.changed.closed() => {
                    if self.leave_if_alone() {
                        return;
                    }
                }
            }
        }
    }

    /// Reads everything that is new.
    async fn catch_up(&self, id: RunId) -> Result<(), RepoError> {
        loop {
            let after = self.feed.last();
            let Some(page) = self.feeds.page(&self.actor, id, after).await? else {
                self.feed.end(State::Over);
                return Ok(());
            };
            let more = is_full(&page);
            self.feed.append(page);
            if !more {
                return Ok(());
            }
        }
    }

    /// Takes the feed off the registry if nobody is subscribed to it.
    fn leave_if_alone(&self) -> bool {
        let mut registry = self.feeds.registry();
        let alone = self.feed.changed.receiver_count() == 0;
        if alone {
            registry.remove(&self.key);
        }
        alone
    }
}

/// However the reader ends, nobody waits for it afterwards.
impl Drop for Reader {
    fn drop(&mut self) {
        let mut registry = self.feeds.registry();
        if registry
            .get(&self.key)
            .is_some_and(|feed| Arc::ptr_eq(feed, &self.feed))
        {
            registry.remove(&self.key);
        }
        drop(registry);
        self.feed.end(State::Broken);
    }
}

/// Waits for a signal, but not longer than `wait`; forgets a source that ended.
async fn woken(signals: &mut Option<SignalStream>, wait: Duration) {
    if let Some(stream) = signals {
        match timeout(wait, stream.next()).await {
            Ok(Some(())) | Err(_) => return,
            Ok(None) => *signals = None,
        }
    }
    sleep(wait.min(BACKSTOP_WITHOUT_SIGNALS)).await;
}
