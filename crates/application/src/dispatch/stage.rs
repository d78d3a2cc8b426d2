use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// A run may be nearly done, whatever it is doing.
const SHORT_GRACE: Duration = Duration::from_millis(500);

/// How far a task is, as far as a stop is concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StagePoint {
    /// Another worker can take over at any time, on any backend.
    Preparing,
    /// The backend may have the run: another worker can take over there.
    Underway,
    /// The outputs are on their way home; soon all is done.
    Storing,
    /// The last word is being written.
    Ending,
}

/// Says when a stopping worker leaves a run to another one.
#[derive(Debug)]
pub(super) struct Stage(watch::Sender<StagePoint>);

impl Stage {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(StagePoint::Preparing))
    }

    pub(super) fn reach(&self, point: StagePoint) {
        self.0.send_replace(point);
    }

    /// Whether the backend may have the run.
    pub(super) fn may_live(&self) -> bool {
        *self.0.borrow() != StagePoint::Preparing
    }

    pub(super) fn is_ending(&self) -> bool {
        *self.0.borrow() == StagePoint::Ending
    }

    /// Comes back when the worker is to stop and the run is to be handed over.
    pub(super) async fn hand_over(&self, mut stop: watch::Receiver<bool>, grace: Duration) {
        // An error says that the sender is gone, which stops us too.
        drop(stop.wait_for(|stopped| *stopped).await);
        let short = SHORT_GRACE.min(grace);
        sleep(short).await;
        let mut point = self.0.subscribe();
        let is_early =
            |point: &StagePoint| matches!(point, StagePoint::Preparing | StagePoint::Underway);
        let storing = !is_early(&point.borrow_and_update());
        if storing {
            // Whoever is storing either ends, and with it this future, or is too slow.
            let back = point.wait_for(is_early);
            drop(timeout(grace.saturating_sub(short), back).await);
        }
        if self.is_ending() {
            std::future::pending::<()>().await;
        }
    }
}
