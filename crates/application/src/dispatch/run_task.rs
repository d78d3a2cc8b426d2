use std::sync::Arc;
use std::time::Duration;

use atelier_domain::ports::{ClaimedRun, Measurement, ReleaseReason};
use atelier_domain::run::{RunFailureCode, RunStatus};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};

use super::attempt::Attempt;
use super::ending::{Ending, Gone, Stop, Wish, make_wish};
use super::heartbeat::Heartbeat;
use super::ledger::RunLedger;
use super::reporter::{Reporter, Stopwatch};
use super::stage::{Stage, StagePoint};
use super::station::{Shared, Station};

/// How long a stopping worker tries to say that it leaves a run.
const LAST_WORD: Duration = Duration::from_secs(2);

/// A claimed run, on its way.
pub(super) struct RunTask {
    pub(super) shared: Arc<Shared>,
    pub(super) station: Arc<Station>,
    pub(super) claimed: ClaimedRun,
    /// A moment at which the claim was not yet given.
    pub(super) claimed_at: Instant,
    pub(super) stop: watch::Receiver<bool>,
}

impl RunTask {
    /// Wishes the run to end when its time is over.
    async fn time_out(&self, wishes: &watch::Sender<Option<Wish>>) -> std::convert::Infallible {
        sleep_until(self.claimed_at + self.claimed.remaining).await;
        let seconds = self.claimed.timeout_s;
        make_wish(wishes, Wish::TimeOut { seconds });
        std::future::pending().await
    }

    fn measure(&self, ended: &Ended) {
        let backend = self.station.name.clone();
        self.shared.telemetry.record(match ended.status {
            RunStatus::Pending | RunStatus::Running => Measurement::RunReleased { backend },
            status => Measurement::RunEnded {
                backend,
                status,
                // One that was given back fails when that happened too often.
                code: (status == RunStatus::Failed).then(|| {
                    let code = ended.code.unwrap_or(RunFailureCode::AttemptsExhausted);
                    code.as_str().to_owned()
                }),
                took: self.claimed_at.elapsed(),
            },
        });
    }

    /// Works on the run until it is over, given back, or somebody else's.
    ///
    /// Everything happens in one task: when the claim is gone, whatever is under
    /// way is dropped and nothing more is written.
    pub(super) async fn work(self) {
        let settings = &self.shared.settings;
        let (run, token) = (self.claimed.run_id, self.claimed.token);
        let ledger = RunLedger::new(Arc::clone(&self.shared.queue), run, token);
        let previews = Arc::clone(&self.shared.previews);
        let stopwatch = Stopwatch {
            telemetry: Arc::clone(&self.shared.telemetry),
            backend: self.station.name.clone(),
        };
        let reporter = Reporter::new(ledger.clone(), previews, stopwatch, settings.progress);
        let stage = Stage::new();
        reporter.go_on_from(self.claimed.progress.clone());
        let wishes = watch::Sender::new(None);
        let heartbeat = Heartbeat {
            queue: &self.shared.queue,
            signals: &self.shared.signals,
            settings,
            run,
            token,
            claimed_at: self.claimed_at,
            wishes: &wishes,
        };
        let attempt = Attempt {
            shared: &self.shared,
            station: &self.station,
            claimed: &self.claimed,
            ledger: &ledger,
            reporter: &reporter,
            wishes: wishes.subscribe(),
            stage: &stage,
        };
        let outcome = tokio::select! {
            biased;
            gone = heartbeat.keep() => Err(gone),
            gone = reporter.run() => Err(gone),
            never = self.time_out(&wishes) => match never {},
            outcome = through(&attempt, &stage) => outcome,
            () = stage.hand_over(self.stop.clone(), settings.grace) => {
                let released = async {
                    reporter.close().await;
                    let may_live = stage.may_live();
                    let release = Ending::Released(ReleaseReason::HandOver { may_live });
                    ledger.end(release).await.map(|status| Ended { status, code: None })
                };
                // After that the lease ends by itself.
                timeout(LAST_WORD, released).await.unwrap_or(Err(Gone::LeaseOver))
            }
        };
        match outcome {
            Ok(ended) => self.measure(&ended),
            // The last word took the claim with it before its answer was here.
            Err(Gone::ClaimLost) if stage.is_ending() => {
                tracing::debug!("a run's end was written, or the claim was lost");
            }
            Err(gone) => {
                tracing::warn!(
                    error = &gone as &dyn std::error::Error,
                    "stopped working on a run"
                );
            }
        }
    }
}

/// How a run is when a worker parted with it.
struct Ended {
    status: RunStatus,
    code: Option<RunFailureCode>,
}

async fn through(attempt: &Attempt<'_>, stage: &Stage) -> Result<Ended, Gone> {
    let ending = match Box::pin(attempt.perform()).await {
        Ok(ending) | Err(Stop::Ended(ending)) => ending,
        Err(Stop::Gone(gone)) => return Err(gone),
    };
    stage.reach(StagePoint::Ending);
    attempt.reporter.close().await;
    tell(&ending);
    let code = match &ending {
        Ending::Failed(failure, _) => Some(failure.code),
        _ => None,
    };
    let status = attempt.ledger.end(ending).await?;
    Ok(Ended { status, code })
}

fn tell(ending: &Ending) {
    match ending {
        Ending::Completed(outputs) => {
            tracing::info!(run.outputs = outputs.len(), "a run is completed");
        }
        Ending::Failed(failure, _) => {
            tracing::info!(run.error = failure.code.as_str(), "a run failed");
        }
        Ending::Cancelled(_) => tracing::info!("a run is cancelled"),
        // Told when it is written.
        Ending::Released(_) => {}
    }
}
