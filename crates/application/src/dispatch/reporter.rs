use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atelier_domain::ports::{
    Measurement, PreviewImage, QueueError, RunPreviews, RunReport, Telemetry,
};
use atelier_domain::run::{RunPhase, RunProgress};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::ending::Gone;
use super::ledger::RunLedger;

/// How soon the first report is written: a run that is over sooner costs none.
const FIRST_REPORT: Duration = Duration::from_millis(50);

/// Tells how a run goes on, in the background and not too often: what happens
/// between two reports is folded together.
pub(super) struct Reporter {
    ledger: RunLedger,
    previews: Arc<dyn RunPreviews>,
    stopwatch: Stopwatch,
    interval: Duration,
    state: Mutex<State>,
    wake: Notify,
    /// Held while a report is being written.
    writing: tokio::sync::Mutex<()>,
}

/// Measures how long a run is in its phases.
pub(super) struct Stopwatch {
    pub(super) telemetry: Arc<dyn Telemetry>,
    pub(super) backend: String,
}

impl Stopwatch {
    fn end_phase(&self, state: &mut State) {
        if let (Some(phase), Some(began)) = (state.phase, state.phase_began.take()) {
            self.telemetry.record(Measurement::PhaseEnded {
                backend: self.backend.clone(),
                phase,
                took: began.elapsed(),
            });
        }
    }
}

#[derive(Default)]
struct State {
    pending: RunReport,
    phase: Option<RunPhase>,
    phase_began: Option<Instant>,
    progress: Option<RunProgress>,
    preview: Option<PreviewImage>,
    closed: bool,
}

impl Reporter {
    pub(super) fn new(
        ledger: RunLedger,
        previews: Arc<dyn RunPreviews>,
        stopwatch: Stopwatch,
        interval: Duration,
    ) -> Self {
        Self {
            ledger,
            previews,
            stopwatch,
            interval,
            state: Mutex::default(),
            wake: Notify::new(),
            writing: tokio::sync::Mutex::new(()),
        }
    }

    /// Begins where an earlier attempt stopped.
    pub(super) fn go_on_from(&self, progress: RunProgress) {
        self.lock().progress = Some(progress);
    }

    /// Shows a preview to whoever watches; of several, the latest.
    pub(super) fn preview(&self, image: PreviewImage) {
        if self.previews.is_wanted(self.ledger.run()) {
            self.change(|state| state.preview = Some(image));
        }
    }

    /// Tells the phase, unless the run is further already.
    pub(super) fn phase(&self, phase: RunPhase) {
        self.change(|state| {
            if state.phase.is_none_or(|known| known < phase) {
                self.stopwatch.end_phase(state);
                state.phase = Some(phase);
                state.phase_began = Some(Instant::now());
                state.pending.phase = Some(phase);
            }
        });
    }

    /// Tells the progress; its value never falls.
    pub(super) fn progress(&self, mut progress: RunProgress) {
        self.change(|state| {
            if let Some(known) = &state.progress {
                progress.value = progress.value.max(known.value);
                progress.nodes_done = progress.nodes_done.max(known.nodes_done);
                progress.lora_bytes_total = progress.lora_bytes_total.or(known.lora_bytes_total);
                progress.lora_bytes_done = progress.lora_bytes_done.max(known.lora_bytes_done);
            }
            if state.progress.as_ref() != Some(&progress) {
                state.progress = Some(progress.clone());
                state.pending.progress = Some(progress);
            }
        });
    }

    /// Tells what the backend calls the run, after all that was told before, and
    /// does not come back before it is written.
    pub(super) async fn store_prompt_id(&self, prompt_id: String) -> Result<(), Gone> {
        let _writing = self.writing.lock().await;
        let report = {
            let mut state = self.lock();
            state.pending.comfyui_prompt_id = Some(prompt_id);
            std::mem::take(&mut state.pending)
        };
        self.ledger.report(report).await
    }

    /// Writes, until the claim is gone.
    pub(super) async fn run(&self) -> Gone {
        self.wake.notified().await;
        sleep(FIRST_REPORT.min(self.interval)).await;
        self.wake.notify_one();
        loop {
            self.wake.notified().await;
            self.show().await;
            if let Some(gone) = self.write().await {
                return gone;
            }
            sleep(self.interval).await;
        }
    }

    /// Writes nothing more; waits for a report that is on its way.
    pub(super) async fn close(&self) {
        {
            let mut state = self.lock();
            state.closed = true;
            self.stopwatch.end_phase(&mut state);
        }
        let _writing = self.writing.lock().await;
    }

    async fn show(&self) {
        let preview = self.lock().preview.take();
        if let Some(image) = preview
            && let Err(error) = self.previews.publish(self.ledger.run(), image).await
        {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a preview was not shown"
            );
        }
    }

    async fn write(&self) -> Option<Gone> {
        let _writing = self.writing.lock().await;
        let report = {
            let mut state = self.lock();
            if state.closed {
                return None;
            }
            std::mem::take(&mut state.pending)
        };
        if report == RunReport::default() {
            return None;
        }
        match self.ledger.try_report(report.clone()).await {
            Ok(()) => None,
            Err(QueueError::ClaimLost) => Some(Gone::ClaimLost),
            Err(error) => {
                tracing::debug!(
                    error = &error as &dyn std::error::Error,
                    "a report about a run is tried again"
                );
                self.change(|state| state.take_back(report));
                None
            }
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.lock());
        self.wake.notify_one();
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// What is newer stays.
    fn take_back(&mut self, report: RunReport) {
        self.pending.phase = self.pending.phase.or(report.phase);
        if self.pending.progress.is_none() {
            self.pending.progress = report.progress;
        }
    }
}

#[cfg(test)]
mod tests {
    use atelier_domain::ids::{ClaimToken, RunId};
    use atelier_domain::ports::{MockRunPreviews, MockRunQueue, MockTelemetry};
    use uuid::Uuid;

    use super::*;
    use crate::observation::NotObserved;

    fn reporter(queue: MockRunQueue) -> Reporter {
        measured_reporter(queue, NotObserved)
    }

    fn measured_reporter(queue: MockRunQueue, telemetry: impl Telemetry + 'static) -> Reporter {
        let (run, token) = (RunId::new(Uuid::nil()), ClaimToken::new(Uuid::nil()));
        let ledger = RunLedger::new(Arc::new(queue), run, token);
        let previews = Arc::new(MockRunPreviews::new());
        let stopwatch = Stopwatch {
            telemetry: Arc::new(telemetry),
            backend: "gpu-1".to_owned(),
        };
        Reporter::new(ledger, previews, stopwatch, Duration::from_mins(1))
    }

    /// Lets the reporter write for a second.
    async fn a_second(reporter: &Reporter) {
        let written = tokio::time::timeout(Duration::from_secs(1), reporter.run()).await;
        assert!(written.is_err(), "{written:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_run_that_is_over_at_once_costs_no_report() {
        let reporter = reporter(MockRunQueue::new());
        reporter.phase(RunPhase::Submitting);
        let written = tokio::time::timeout(Duration::from_millis(20), reporter.run()).await;
        assert!(written.is_err(), "{written:?}");

        reporter.close().await;
    }

    #[tokio::test(start_paused = true)]
    async fn after_the_close_nothing_else_is_written() {
        let reporter = reporter(MockRunQueue::new());
        reporter.phase(RunPhase::Executing);

        reporter.close().await;
        reporter.phase(RunPhase::StoringOutputs);

        a_second(&reporter).await;
    }

    #[tokio::test(start_paused = true)]
    async fn phases_and_progress_never_go_back() {
        let mut queue = MockRunQueue::new();
        queue
            .expect_report()
            .times(1)
            .withf(|_, _, report| {
                let value = report.progress.as_ref().map(|progress| progress.value);
                report.phase == Some(RunPhase::Executing) && value == Some(0.5)
            })
            .returning(|_, _, _| Ok(()));
        let reporter = reporter(queue);
        let half = RunProgress {
            value: 0.5,
            ..RunProgress::default()
        };

        reporter.phase(RunPhase::Executing);
        reporter.progress(half);
        reporter.phase(RunPhase::Queued);
        reporter.progress(RunProgress::default());

        a_second(&reporter).await;
    }

    #[tokio::test(start_paused = true)]
    async fn every_phase_is_measured_from_its_beginning_to_the_next() {
        let (sender, measured) = std::sync::mpsc::channel();
        let mut telemetry = MockTelemetry::new();
        telemetry
            .expect_record()
            .returning(move |measurement| drop(sender.send(measurement)));
        let reporter = measured_reporter(MockRunQueue::new(), telemetry);

        reporter.phase(RunPhase::Submitting);
        tokio::time::advance(Duration::from_secs(2)).await;
        reporter.phase(RunPhase::Executing);
        reporter.phase(RunPhase::Queued);
        tokio::time::advance(Duration::from_secs(3)).await;
        reporter.close().await;
        reporter.close().await;

        let ended = |phase, seconds| Measurement::PhaseEnded {
            backend: "gpu-1".to_owned(),
            phase,
            took: Duration::from_secs(seconds),
        };
        assert_eq!(
            measured.try_iter().collect::<Vec<_>>(),
            [
                ended(RunPhase::Submitting, 2),
                ended(RunPhase::Executing, 3)
            ]
        );
    }
}
