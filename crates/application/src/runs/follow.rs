use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;

use atelier_domain::actor::Actor;
use atelier_domain::ids::RunId;
use atelier_domain::ports::{RepoError, RunRepo, RunSignals};
use atelier_domain::run::{RunEvent, RunEventKind, RunStatus};
use futures_util::{Stream, stream};
use serde_json::Value;
use tokio::runtime::Handle;
use tokio::time::sleep;

use super::feed::{FIRST_PAUSE, Feeds, LAST_PAUSE, PAGE, Subscription, Taken, is_full};
use crate::opaque::opaque_debug;

/// The events of a run, each once and in order. It ends after the event that
/// ends the run, or when the run is gone; an outage of the database only makes
/// it wait.
pub type RunEvents = Pin<Box<dyn Stream<Item = Arc<RunEvent>> + Send>>;

/// What somebody who wants to follow a run gets.
pub enum Following {
    /// There is no such run, or it is not the actor's.
    Absent,
    /// The run is over, and its last event is known already.
    Over,
    /// What comes after the events that are known.
    Events(RunEvents),
}

impl fmt::Debug for Following {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Absent => "Absent",
            Self::Over => "Over",
            Self::Events(_) => "Events(..)",
        })
    }
}

/// The status in which an event ends its run, if it does.
pub fn final_status(event: &RunEvent) -> Option<RunStatus> {
    if event.kind != RunEventKind::Status {
        return None;
    }
    let word = event.data.get("status").and_then(Value::as_str)?;
    RunStatus::parse(word).filter(|status| status.is_final())
}

/// Follows runs: what was, and then what happens.
///
/// However many follow one run in this process, its new events are read once.
#[derive(Clone)]
pub struct FollowRun {
    feeds: Arc<Feeds>,
}

opaque_debug!(FollowRun);

impl FollowRun {
    /// Follows runs in `runs`, woken by `signals`. What is read for several
    /// followers is read on `io`, which outlives them.
    pub fn new(runs: Arc<dyn RunRepo>, signals: Arc<dyn RunSignals>, io: Handle) -> Self {
        Self {
            feeds: Arc::new(Feeds::new(runs, signals, io)),
        }
    }

    /// How many runs are followed at this moment.
    pub fn followed(&self) -> usize {
        self.feeds.open()
    }

    /// Begins to follow a run after the event of sequence `known`, or from its
    /// beginning if that is 0. Somebody who claims to know more than has
    /// happened is told what happens from now on.
    ///
    /// # Errors
    /// Whatever the repository says while the beginning is read; later trouble
    /// makes the stream wait.
    ///
    /// # Cancellation
    /// Nothing is written; dropping future or stream ends it.
    pub async fn execute(
        &self,
        actor: &Actor,
        id: RunId,
        known: i64,
    ) -> Result<Following, RepoError> {
        let runs = self.feeds.runs();
        // The event that is known is read too: it tells whether it was the last.
        let before = known.saturating_sub(1).max(0);
        let Some(page) = runs.events(actor, id, before, PAGE).await? else {
            return Ok(Following::Absent);
        };
        let mut follower = Follower {
            feeds: Arc::clone(&self.feeds),
            actor: actor.clone(),
            id,
            after: known.max(0),
            more_is_stored: is_full(&page),
            backlog: page.into(),
            subscription: None,
            is_over: false,
        };
        if known > 0 {
            let last_known = match follower.backlog.pop_front() {
                Some(event) => Some(event),
                None => self.newest(actor, id).await?,
            };
            let Some(last_known) = last_known else {
                return Ok(Following::Absent);
            };
            if final_status(&last_known).is_some() {
                return Ok(Following::Over);
            }
            follower.after = last_known.sequence;
        }
        Ok(Following::Events(Box::pin(stream::unfold(
            follower,
            async |mut follower| Some((follower.next().await?, follower)),
        ))))
    }

    /// The run's last event; `None` if the run is gone.
    async fn newest(&self, actor: &Actor, id: RunId) -> Result<Option<RunEvent>, RepoError> {
        let mut newest: Option<RunEvent> = None;
        loop {
            let after = newest.as_ref().map_or(0, |event| event.sequence);
            let page = self.feeds.page(actor, id, after).await?.unwrap_or_default();
            let was_full = is_full(&page);
            newest = page.into_iter().next_back().or(newest);
            if !was_full {
                return Ok(newest);
            }
        }
    }
}

/// One who follows a run: first what is stored, by pages of its own, then what
/// the run's feed brings.
struct Follower {
    feeds: Arc<Feeds>,
    actor: Actor,
    id: RunId,
    /// The sequence of the last event that was given out.
    after: i64,
    /// Read, and not given out yet.
    backlog: VecDeque<RunEvent>,
    /// Whether there may be more before the feed begins.
    more_is_stored: bool,
    subscription: Option<Subscription>,
    is_over: bool,
}

impl Follower {
    async fn next(&mut self) -> Option<Arc<RunEvent>> {
        loop {
            if self.is_over {
                return None;
            }
            if let Some(event) = self.backlog.pop_front() {
                return Some(self.give_out(Arc::new(event)));
            }
            if self.more_is_stored {
                self.read_on().await;
                continue;
            }
            // Whoever waits does so without the room that the history took.
            self.backlog = VecDeque::new();
            let (feeds, actor) = (&self.feeds, &self.actor);
            let subscription = self
                .subscription
                .get_or_insert_with(|| feeds.subscribe(actor, self.id, self.after));
            match subscription.take(self.after) {
                Taken::Event(event) => return Some(self.give_out(event)),
                Taken::Nothing => subscription.changed().await,
                Taken::Behind => self.more_is_stored = true,
                Taken::Over => return None,
                Taken::Broken => {
                    self.subscription = None;
                    sleep(FIRST_PAUSE).await;
                }
            }
        }
    }

    fn give_out(&mut self, event: Arc<RunEvent>) -> Arc<RunEvent> {
        self.after = event.sequence;
        self.is_over = final_status(&event).is_some();
        event
    }

    /// Reads a page, as soon as that is possible.
    async fn read_on(&mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            match self.feeds.page(&self.actor, self.id, self.after).await {
                Ok(Some(page)) => {
                    self.more_is_stored = is_full(&page);
                    self.backlog = page.into();
                    return;
                }
                Ok(None) => {
                    self.is_over = true;
                    return;
                }
                Err(error) => {
                    tracing::debug!(run.id = %self.id, %error, "events cannot be read just now");
                    sleep(pause).await;
                    pause = (pause * 2).min(LAST_PAUSE);
                }
            }
        }
    }
}
