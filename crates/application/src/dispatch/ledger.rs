use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ids::{ClaimToken, RunId};
use atelier_domain::ports::{QueueError, RunQueue, RunReport};
use atelier_domain::run::RunStatus;
use tokio::time::sleep;

use super::backoff::Backoff;
use super::ending::{Ending, Gone};

/// A defect may be one connection's; more tries than these would hide it.
const DEFECT_TRIES: u32 = 3;

/// Writes about one run, under its claim.
///
/// A queue that is away is tried again for as long as the claim holds: whoever
/// writes is stopped from outside when it no longer does.
#[derive(Clone)]
pub(super) struct RunLedger {
    queue: Arc<dyn RunQueue>,
    run: RunId,
    token: ClaimToken,
}

impl RunLedger {
    pub(super) fn new(queue: Arc<dyn RunQueue>, run: RunId, token: ClaimToken) -> Self {
        Self { queue, run, token }
    }

    /// The run.
    pub(super) fn run(&self) -> RunId {
        self.run
    }

    /// Tells how the run goes on, and does not come back before it is written.
    pub(super) async fn report(&self, report: RunReport) -> Result<(), Gone> {
        self.persist(&Write::Report(report)).await.map(drop)
    }

    /// Tries once to tell how the run goes on.
    pub(super) async fn try_report(&self, report: RunReport) -> Result<(), QueueError> {
        self.queue.report(self.run, self.token, report).await
    }

    /// Says the last word about the run; the claim ends with it. Says how the run is then.
    pub(super) async fn end(&self, ending: Ending) -> Result<RunStatus, Gone> {
        self.persist(&Write::End(ending)).await
    }

    async fn persist(&self, write: &Write) -> Result<RunStatus, Gone> {
        let mut backoff = Backoff::new(Duration::from_millis(50), Duration::from_secs(2));
        let mut defects = 0;
        loop {
            match self.write(write).await {
                Ok(status) => return Ok(status),
                Err(QueueError::ClaimLost) => return Err(Gone::ClaimLost),
                Err(QueueError::Repo(error)) if defects + 1 >= DEFECT_TRIES => {
                    return Err(Gone::Defect(error));
                }
                Err(error) => {
                    defects += u32::from(matches!(error, QueueError::Repo(_)));
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "a write about a run is tried again"
                    );
                }
            }
            sleep(backoff.next()).await;
        }
    }

    async fn write(&self, write: &Write) -> Result<RunStatus, QueueError> {
        let (queue, run, token) = (&self.queue, self.run, self.token);
        match write {
            Write::Report(report) => {
                queue.report(run, token, report.clone()).await?;
                Ok(RunStatus::Running)
            }
            Write::End(Ending::Completed(outputs)) => {
                queue.complete(run, token, outputs.clone()).await?;
                Ok(RunStatus::Completed)
            }
            Write::End(Ending::Failed(failure, outputs)) => {
                queue
                    .fail(run, token, failure.clone(), outputs.clone())
                    .await?;
                Ok(RunStatus::Failed)
            }
            Write::End(Ending::Cancelled(outputs)) => {
                queue.cancelled(run, token, outputs.clone()).await?;
                Ok(RunStatus::Cancelled)
            }
            Write::End(Ending::Released(reason)) => {
                let status = queue.release(run, token, *reason).await?;
                tracing::info!(run.status = status.as_str(), ?reason, "gave a run back");
                Ok(status)
            }
        }
    }
}

enum Write {
    Report(RunReport),
    End(Ending),
}
