use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ids::ClaimToken;
use atelier_domain::ports::{
    ClaimOutcome, ClaimRequest, ClaimedRun, QueueError, RunTopic, SignalStream,
};
use futures_util::StreamExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tracing::Instrument as _;

use super::backoff::{Backoff, spread};
use super::run_task::RunTask;
use super::station::{Shared, Station};

/// The first run is worth a moment's wait for the socket.
const SOCKET_PATIENCE: Duration = Duration::from_secs(1);

/// Beyond the grace, for runs that are writing their last word.
const LAST_WORDS: Duration = Duration::from_secs(3);

/// Takes runs for one backend.
pub(super) struct Claims {
    shared: Arc<Shared>,
    station: Arc<Station>,
    stop: watch::Receiver<bool>,
    slots: Arc<Semaphore>,
    tasks: JoinSet<()>,
}

impl Claims {
    pub(super) fn new(
        shared: Arc<Shared>,
        station: Arc<Station>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(station.max_in_flight)),
            shared,
            station,
            stop,
            tasks: JoinSet::new(),
        }
    }

    /// Takes runs until told to stop, then waits for those that it has.
    pub(super) async fn serve(mut self) {
        let mut signals = Some(self.shared.signals.watch(RunTopic::Queue));
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        while let Some(slot) = self.room().await {
            let claimed_at = Instant::now();
            match self.claim().await {
                Ok(ClaimOutcome::Claimed(claimed)) => {
                    backoff.reset();
                    self.begin(*claimed, claimed_at, slot);
                }
                Ok(nothing) => {
                    drop(slot);
                    self.station.end_trial();
                    backoff.reset();
                    let poll = spread(self.shared.ids.as_ref(), self.shared.settings.poll);
                    let pause = match nothing {
                        ClaimOutcome::Deferred(pause) => pause.min(poll),
                        _ => poll,
                    };
                    self.pause(&mut signals, pause).await;
                }
                Err(error) => {
                    drop(slot);
                    self.station.end_trial();
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "no run could be claimed; trying again"
                    );
                    let pause = spread(self.shared.ids.as_ref(), backoff.next());
                    let _stopped = unless_stopped(self.stop.clone(), sleep(pause)).await;
                }
            }
        }
        self.drain().await;
    }

    /// Waits until there is room for a run and the backend answers; `None` when
    /// the worker is to stop.
    async fn room(&mut self) -> Option<OwnedSemaphorePermit> {
        while let Some(done) = self.tasks.try_join_next() {
            report_panic(done);
        }
        if *self.stop.borrow() {
            return None;
        }
        let slots = Arc::clone(&self.slots);
        let getting_ready = async {
            let slot = slots.acquire_owned().await;
            if self.station.admitted(self.shared.ids.as_ref()).await {
                self.get_ready().await;
            }
            slot.ok()
        };
        unless_stopped(self.stop.clone(), getting_ready)
            .await
            .flatten()
    }

    async fn get_ready(&self) {
        self.station.link.connected_within(SOCKET_PATIENCE).await;
        // A class of which nobody knows that it takes LoRAs is not looked at.
        if self
            .shared
            .catalogue
            .known_of(&self.station.client)
            .is_none()
            && let Err(error) = self
                .station
                .answer(self.shared.catalogue.ask(&self.station.client))
                .await
        {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "a backend did not say which LoRAs it offers"
            );
        }
    }

    /// Not cut short by a stop: a claim whose answer nobody reads keeps its run
    /// waiting for a whole lease.
    async fn claim(&self) -> Result<ClaimOutcome, QueueError> {
        let settings = &self.shared.settings;
        let request = ClaimRequest {
            token: ClaimToken::new(self.shared.ids.new_id()),
            worker: settings.worker.clone(),
            backend: self.station.name.clone(),
            max_in_flight: self.station.room(),
            lease: settings.lease,
            max_running: settings.max_running,
            affinity: settings.affinity,
        };
        timeout(settings.lease, self.shared.queue.claim(request))
            .await
            .unwrap_or_else(|late| Err(QueueError::Unavailable(late.into())))
    }

    fn begin(&mut self, claimed: ClaimedRun, claimed_at: Instant, slot: OwnedSemaphorePermit) {
        let span = tracing::info_span!(
            "run",
            run.id = %claimed.run_id,
            user.id = %claimed.user_id,
            run.attempt = claimed.attempt,
            backend = self.station.name,
            trace_id = tracing::field::Empty,
        );
        if let Some(parent) = &claimed.trace_parent {
            self.shared.traces.continue_from(&span, parent);
        }
        let task = RunTask {
            shared: Arc::clone(&self.shared),
            station: Arc::clone(&self.station),
            claimed,
            claimed_at,
            stop: self.stop.clone(),
        };
        let working = async move {
            let station = Arc::clone(&task.station);
            task.work().await;
            station.end_trial();
            drop(slot);
        };
        self.tasks.spawn(working.instrument(span));
    }

    /// Waits until there may be a run.
    async fn pause(&mut self, signals: &mut Option<SignalStream>, longest: Duration) {
        let waiting = async {
            let signalled = async {
                match signals {
                    Some(stream) => stream.next().await,
                    None => std::future::pending().await,
                }
            };
            match timeout(longest, signalled).await {
                Ok(Some(())) | Err(_) => true,
                Ok(None) => false,
            }
        };
        if unless_stopped(self.stop.clone(), waiting).await == Some(false) {
            // No more signals, ever: from now on the queue is only polled.
            *signals = None;
        }
    }

    async fn drain(&mut self) {
        let all = async {
            while let Some(done) = self.tasks.join_next().await {
                report_panic(done);
            }
        };
        if timeout(self.shared.settings.grace + LAST_WORDS, all)
            .await
            .is_err()
        {
            tracing::warn!(
                runs = self.tasks.len(),
                "runs were left behind; they go on when their leases end"
            );
            self.tasks.shutdown().await;
        }
    }
}

fn report_panic(done: Result<(), tokio::task::JoinError>) {
    if let Err(error) = done
        && error.is_panic()
    {
        tracing::error!(
            error = &error as &dyn std::error::Error,
            "a task broke down; its run goes on when its lease ends"
        );
    }
}

/// `None` if the worker is to stop first.
async fn unless_stopped<T>(
    mut stop: watch::Receiver<bool>,
    step: impl Future<Output = T>,
) -> Option<T> {
    tokio::select! {
        biased;
        // An error says that the sender is gone, which stops us too.
        _stopped = stop.wait_for(|stopped| *stopped) => None,
        outcome = step => Some(outcome),
    }
}
