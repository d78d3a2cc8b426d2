//! Signals about runs, by LISTEN and NOTIFY.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use atelier_domain::ids::RunId;
use atelier_domain::ports::{RunSignals, RunTopic, SignalStream};
use diesel_async::SimpleAsyncConnection;
use futures_util::{StreamExt, pin_mut};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::connect::Connector;
use crate::previews::{PICTURES, PreviewHub, WISHES};

/// Where the triggers say which run changed; of a transfer of a LoRA, that a run waits which does not exist.
const RUNS: &str = "atelier_runs";

/// The first pause before connecting again; it doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LAST_PAUSE: Duration = Duration::from_secs(10);

/// How many topics there are before those that nobody watches any more are looked for.
const SWEEP_FROM: usize = 256;

/// Implements [`RunSignals`].
#[derive(Clone)]
pub struct PgRunSignals {
    listener: Arc<Listener>,
}

impl PgRunSignals {
    pub(crate) fn new(listener: Arc<Listener>) -> Self {
        Self { listener }
    }
}

impl fmt::Debug for PgRunSignals {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PgRunSignals")
            .finish_non_exhaustive()
    }
}

impl RunSignals for PgRunSignals {
    fn watch(&self, topic: RunTopic) -> SignalStream {
        self.listener.start();
        let receiver = self.listener.hub.subscribe(topic);
        Box::pin(futures_util::stream::unfold(
            receiver,
            |mut receiver| async {
                receiver.changed().await.ok()?;
                Some(((), receiver))
            },
        ))
    }
}

/// One connection that listens for every watcher of a store, of signals and of previews, made when the first one comes.
pub(crate) struct Listener {
    hub: Arc<Hub>,
    previews: Arc<PreviewHub>,
    connector: Arc<Connector>,
    runtime: Handle,
    started: Once,
    /// Dropped with the store: then the connection is closed and every stream ends.
    alive: watch::Sender<()>,
}

impl Listener {
    pub(crate) fn new(
        connector: Arc<Connector>,
        previews: Arc<PreviewHub>,
        runtime: Handle,
    ) -> Self {
        Self {
            hub: Arc::default(),
            previews,
            connector,
            runtime,
            started: Once::new(),
            alive: watch::Sender::new(()),
        }
    }

    pub(crate) fn start(&self) {
        self.started.call_once(|| {
            let (hub, previews) = (Arc::clone(&self.hub), Arc::clone(&self.previews));
            let connector = Arc::clone(&self.connector);
            let mut alive = self.alive.subscribe();
            self.runtime.spawn(async move {
                tokio::select! {
                    _store_is_gone = alive.changed() => {}
                    () = listen_for_ever(&connector, &hub, &previews) => {}
                }
            });
        });
    }
}

async fn listen_for_ever(connector: &Connector, hub: &Hub, previews: &PreviewHub) {
    let mut pause = FIRST_PAUSE;
    loop {
        let outcome = listen(connector, hub, previews, &mut pause).await;
        previews.listens(false);
        match outcome {
            Ok(()) => tracing::warn!("the connection that listens for runs was closed"),
            Err(error) => {
                tracing::warn!(%error, retry_ms = pause.as_millis(), "cannot listen for runs");
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LAST_PAUSE);
    }
}

/// Listens until the connection ends.
async fn listen(
    connector: &Connector,
    hub: &Hub,
    previews: &PreviewHub,
    pause: &mut Duration,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut connection = connector.connect().await?;
    let channels = format!("LISTEN {RUNS}; LISTEN {PICTURES}; LISTEN {WISHES}");
    connection.batch_execute(&channels).await?;
    *pause = FIRST_PAUSE;
    // Whatever happened before this moment was not heard.
    hub.wake_everybody();
    previews.listens(true);
    let notifications = connection.notifications_stream();
    pin_mut!(notifications);
    while let Some(notification) = notifications.next().await {
        let notification = notification?;
        match notification.channel.as_str() {
            PICTURES => previews.hear_piece(&notification.payload),
            WISHES => previews.hear_wish(&notification.payload),
            _ => hub.wake(&notification.payload),
        }
    }
    Ok(())
}

/// Who watches what.
#[derive(Default)]
struct Hub {
    topics: Mutex<HashMap<RunTopic, watch::Sender<()>>>,
    /// How many topics there are when the next sweep comes.
    next_sweep: AtomicUsize,
}

impl Hub {
    fn topics(&self) -> std::sync::MutexGuard<'_, HashMap<RunTopic, watch::Sender<()>>> {
        self.topics.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribe(&self, topic: RunTopic) -> watch::Receiver<()> {
        let mut topics = self.topics();
        // Amortised: a sweep that leaves most is followed by as many subscriptions again before the next.
        if topics.len() >= self.next_sweep.load(Ordering::Relaxed).max(SWEEP_FROM) {
            topics.retain(|_, sender| sender.receiver_count() > 0);
            self.next_sweep.store(2 * topics.len(), Ordering::Relaxed);
        }
        topics.entry(topic).or_default().subscribe()
    }

    /// Reads a payload of the trigger's: a run's id, and ` queued` if it waits now, or ` over`.
    fn wake(&self, payload: &str) {
        let (id, news) = payload.split_once(' ').unwrap_or((payload, ""));
        let Ok(id) = id.parse::<RunId>() else {
            return;
        };
        let mut topics = self.topics();
        let is_over = news == "over";
        let of_run = [
            Some(RunTopic::Run(id)),
            is_over.then_some(RunTopic::End(id)),
        ];
        for topic in of_run.into_iter().flatten() {
            if topics
                .get(&topic)
                .is_some_and(|sender| sender.send(()).is_err())
            {
                topics.remove(&topic);
            }
        }
        if news == "queued"
            && let Some(sender) = topics.get(&RunTopic::Queue)
        {
            sender.send_replace(());
        }
    }

    fn wake_everybody(&self) {
        for sender in self.topics().values() {
            sender.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::FutureExt;

    fn run(number: u128) -> RunId {
        RunId::new(uuid::Uuid::from_u128(number))
    }

    fn woken(receiver: &mut watch::Receiver<()>) -> bool {
        receiver.changed().now_or_never().is_some()
    }

    #[test]
    fn only_the_topics_concerned_wake() {
        let hub = Hub::default();
        let mut queue = hub.subscribe(RunTopic::Queue);
        let mut first = hub.subscribe(RunTopic::Run(run(1)));
        let mut second = hub.subscribe(RunTopic::Run(run(2)));

        hub.wake(&run(1).to_string());
        assert!(woken(&mut first) && !woken(&mut second) && !woken(&mut queue));

        hub.wake(&format!("{} queued", run(2)));
        assert!(!woken(&mut first) && woken(&mut second) && woken(&mut queue));

        let mut end = hub.subscribe(RunTopic::End(run(1)));
        hub.wake(&run(1).to_string());
        assert!(woken(&mut first) && !woken(&mut end));
        hub.wake(&format!("{} over", run(1)));
        assert!(woken(&mut first) && woken(&mut end) && !woken(&mut queue));
    }

    #[test]
    fn topics_that_nobody_watches_are_forgotten() {
        let hub = Hub::default();
        for number in 0..10_000 {
            drop(hub.subscribe(RunTopic::Run(run(number))));
        }

        assert!(hub.topics().len() < 2 * SWEEP_FROM);
    }
}
