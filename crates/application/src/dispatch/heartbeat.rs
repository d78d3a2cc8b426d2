use std::sync::Arc;

use atelier_domain::ids::{ClaimToken, RunId};
use atelier_domain::ports::{QueueError, RunQueue, RunSignals, RunTopic, SignalStream};
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::ending::{Gone, Wish, make_wish};
use super::settings::WorkerSettings;

/// Keeps the claim on a run while somebody works on it.
pub(super) struct Heartbeat<'a> {
    pub(super) queue: &'a Arc<dyn RunQueue>,
    pub(super) signals: &'a Arc<dyn RunSignals>,
    pub(super) settings: &'a WorkerSettings,
    pub(super) run: RunId,
    pub(super) token: ClaimToken,
    /// A moment at which the claim was not yet given.
    pub(super) claimed_at: Instant,
    /// Told when the owner wants the run cancelled.
    pub(super) wishes: &'a watch::Sender<Option<Wish>>,
}

impl Heartbeat<'_> {
    /// Comes back only when the claim is gone.
    ///
    /// A queue that is away is waited for until the lease would be over: from
    /// then on the run may be somebody else's.
    pub(super) async fn keep(&self) -> Gone {
        let lease = self.settings.lease;
        let mut held_until = self.claimed_at + lease;
        let mut signals = None;
        let mut next = Instant::now() + self.settings.cancel_notice.min(lease / 3);
        sleep_until(next).await;
        loop {
            // Watching begins before reading: a wish between the two would be missed.
            let signals =
                signals.get_or_insert_with(|| self.signals.watch(RunTopic::Run(self.run)));
            let asked_at = Instant::now();
            match timeout_at(
                held_until,
                self.queue.heartbeat(self.run, self.token, lease),
            )
            .await
            {
                Ok(Ok(heartbeat)) => {
                    held_until = asked_at + lease;
                    next = asked_at + lease / 3;
                    if heartbeat.cancel_requested {
                        make_wish(self.wishes, Wish::Cancel);
                    }
                }
                Ok(Err(QueueError::ClaimLost)) => return Gone::ClaimLost,
                Ok(Err(error)) => {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the claim on a run was not renewed; trying again"
                    );
                    next = asked_at + (lease / 12).min(self.settings.cancel_notice);
                }
                Err(_late) => return Gone::LeaseOver,
            }
            if Instant::now() >= held_until {
                return Gone::LeaseOver;
            }
            self.pause(signals, asked_at, next.min(held_until)).await;
        }
    }

    /// Waits for the next heartbeat: at `next`, or soon after a signal.
    async fn pause(&self, signals: &mut SignalStream, last: Instant, next: Instant) {
        if self.wishes.borrow().is_some() {
            return sleep_until(next).await;
        }
        let signalled = async {
            if signals.next().await.is_none() {
                // The source is gone for good.
                std::future::pending::<()>().await;
            }
            // Our own reports give signals, too.
            sleep_until(last + self.settings.cancel_notice).await;
        };
        tokio::select! {
            () = sleep_until(next) => {}
            () = signalled => {}
        }
    }
}
