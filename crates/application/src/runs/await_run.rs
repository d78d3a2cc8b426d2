use std::sync::Arc;
use std::time::Duration;

use atelier_domain::actor::Actor;
use atelier_domain::ids::RunId;
use atelier_domain::ports::{RepoError, RunRepo, RunSignals, RunTopic, SignalStream};
use atelier_domain::run::Run;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout_at};

use crate::opaque::opaque_debug;

/// How long a signal may be missed before the run is read again anyway.
const BACKSTOP: Duration = Duration::from_secs(2);

/// Waits until a run is over.
#[derive(Clone)]
pub struct AwaitRun {
    /// Where runs are read.
    pub runs: Arc<dyn RunRepo>,
    /// What wakes whoever waits.
    pub signals: Arc<dyn RunSignals>,
}

opaque_debug!(AwaitRun);

impl AwaitRun {
    /// Reads a run as soon as it is over, and after `wait` whatever its status;
    /// `None` if it is absent or not the actor's.
    ///
    /// # Cancellation
    /// Nothing is written; dropping the future ends the wait.
    pub async fn execute(
        &self,
        actor: &Actor,
        id: RunId,
        wait: Duration,
    ) -> Result<Option<Run>, RepoError> {
        if wait.is_zero() {
            return self.runs.get(actor, id).await;
        }
        // Watching begins before reading: a change between the two would be missed.
        let mut signals = Some(self.signals.watch(RunTopic::End(id)));
        let deadline = Instant::now() + wait;
        match self.runs.status(actor, id).await? {
            None => return Ok(None),
            Some(status) if status.is_final() => return self.runs.get(actor, id).await,
            Some(_) => {}
        }
        loop {
            next_signal(&mut signals, deadline.min(Instant::now() + BACKSTOP)).await;
            let run = self.runs.get(actor, id).await?;
            let waits_on = run.as_ref().is_some_and(|run| !run.status.is_final());
            if !waits_on || Instant::now() >= deadline {
                return Ok(run);
            }
        }
    }
}

/// Waits for a signal or until `until`; forgets a source that ended.
async fn next_signal(signals: &mut Option<SignalStream>, until: Instant) {
    if let Some(stream) = signals {
        match timeout_at(until, stream.next()).await {
            Ok(Some(())) | Err(_) => return,
            Ok(None) => *signals = None,
        }
    }
    tokio::time::sleep_until(until).await;
}
