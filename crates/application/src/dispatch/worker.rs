use std::sync::Arc;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tracing::Instrument as _;

use super::attendance::Attendance;
use super::caretaker::Caretaker;
use super::claims::Claims;
use super::janitor::Janitor;
use super::orphans::Orphans;
use super::settings::WorkerParts;
use super::station::{Shared, Station};
use crate::opaque::opaque_debug;
use crate::transfers::Transferring;

/// Executes runs on its backends.
pub struct Worker {
    shared: Arc<Shared>,
    transferring: Arc<Transferring>,
}

opaque_debug!(Worker);

impl Worker {
    /// Puts a worker together; nothing happens before [`Worker::run`].
    pub fn new(parts: WorkerParts) -> Self {
        let stations = parts
            .backends
            .into_iter()
            .map(|backend| {
                Arc::new(Station::new(
                    backend,
                    Arc::clone(&parts.loras),
                    Arc::clone(&parts.copies),
                    Arc::clone(&parts.blobs),
                    Arc::clone(&parts.telemetry),
                    Arc::clone(&parts.ids),
                    parts.settings.patience,
                ))
            })
            .collect();
        Self {
            transferring: parts.transferring,
            shared: Arc::new(Shared {
                queue: parts.queue,
                loras: parts.loras,
                inputs: parts.inputs,
                policy: parts.policy,
                uploads: parts.uploads,
                copies: parts.copies,
                clock: parts.clock,
                blobs: parts.blobs,
                signals: parts.signals,
                previews: parts.previews,
                catalogue: parts.catalogue,
                telemetry: parts.telemetry,
                traces: parts.traces,
                ids: parts.ids,
                settings: parts.settings,
                stations,
            }),
        }
    }

    /// Works until `stop` holds `true`, or its sender is gone.
    ///
    /// Then no further run is claimed; runs that are storing their outputs get
    /// [`WorkerSettings::grace`](super::WorkerSettings::grace) to end, the
    /// others are handed over to whoever claims them next, who finds them on
    /// their backend. It comes back at most three seconds after that grace,
    /// unless the database says nothing at all.
    ///
    /// # Cancellation
    /// Dropping the future leaves runs to the end of their leases, as a crash
    /// does.
    pub async fn run(self, stop: watch::Receiver<bool>) {
        let mut background = JoinSet::new();
        for station in &self.shared.stations {
            let link = Arc::clone(&station.link);
            background.spawn(async move { link.run().await }.in_current_span());
        }
        let recovering = self.janitor();
        background.spawn(async move { recovering.recover_runs().await }.in_current_span());
        let forgetting = self.janitor();
        background.spawn(async move { forgetting.forget_answers().await }.in_current_span());
        let cleaning = self.janitor();
        background.spawn(async move { cleaning.clean_loras().await }.in_current_span());
        let cleaning = self.janitor();
        background.spawn(async move { cleaning.clean_inputs().await }.in_current_span());
        let sweeping = Orphans {
            shared: Arc::clone(&self.shared),
        };
        background.spawn(async move { sweeping.sweep().await }.in_current_span());
        for station in &self.shared.stations {
            let caretaker = Caretaker {
                shared: Arc::clone(&self.shared),
                station: Arc::clone(station),
            };
            let prefetching = caretaker.clone();
            background.spawn(async move { caretaker.keep_tidy().await }.in_current_span());
            background.spawn(async move { prefetching.prefetch().await }.in_current_span());
        }
        let catalogue = Arc::clone(&self.shared.catalogue);
        let interval = self.shared.settings.catalogue;
        let stopped = stop.clone();
        background.spawn(
            async move {
                // Each claim loop asks its backend when it begins.
                tokio::time::sleep(interval).await;
                catalogue.keep_fresh(interval, stopped).await;
            }
            .in_current_span(),
        );

        let mut serving = JoinSet::new();
        let transferring = Arc::clone(&self.transferring);
        serving.spawn(transferring.serve(stop.clone()).in_current_span());
        for station in &self.shared.stations {
            let claims = Claims::new(Arc::clone(&self.shared), Arc::clone(station), stop.clone());
            serving.spawn(claims.serve().in_current_span());
            let attendance = Attendance {
                shared: Arc::clone(&self.shared),
                station: Arc::clone(station),
            };
            let stop = stop.clone();
            serving.spawn(async move { attendance.keep(stop).await }.in_current_span());
        }
        while let Some(done) = serving.join_next().await {
            if let Err(error) = done {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "a backend is no longer served"
                );
            }
        }
        // The sockets outlive the runs that they tell about.
        background.shutdown().await;
    }

    fn janitor(&self) -> Janitor {
        Janitor {
            shared: Arc::clone(&self.shared),
        }
    }
}
