//! Counts, gauges and histograms, in the format of `OpenMetrics` 1.0.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use atelier_domain::ports::{Measurement, Telemetry};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::{Family, MetricConstructor};
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Registry;

use super::figures::Figures;
use super::labels::{
    BackendLabels, BuildLabels, EndLabels, MethodLabel, PhaseLabels, RequestLabels, RouteLabels,
    StateLabels,
};
use super::process::ProcessFigures;

/// The route of requests that no route took.
const UNMATCHED: &str = "unmatched";

/// From the fastest read to the longest wait for a run (60 s), in seconds.
const REQUEST_SECONDS: [f64; 14] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 30.0, 60.0,
];

/// From a run that does nothing to an hour of video, in seconds.
const RUN_SECONDS: [f64; 15] = [
    0.01, 0.05, 0.25, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 60.0, 120.0, 300.0, 600.0, 1_800.0, 3_600.0,
];

type Histograms<L> = Family<L, Histogram, Buckets>;

/// Everything that this process measures. Clones share it.
#[derive(Clone)]
pub struct Metrics(Arc<Inner>);

struct Inner {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    request_seconds: Histograms<RouteLabels>,
    streams: Gauge,
    phase_seconds: Histograms<PhaseLabels>,
    runs_ended: Family<EndLabels, Counter>,
    run_seconds: Histogram,
    runs_released: Family<BackendLabels, Counter>,
    sync_bytes: Family<BackendLabels, Counter>,
    sync_seconds: Histograms<BackendLabels>,
    backend_up: Family<BackendLabels, Gauge>,
    figures: Arc<LatestFigures>,
}

impl fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Metrics").finish_non_exhaustive()
    }
}

#[derive(Clone, Copy)]
struct Buckets(&'static [f64]);

impl MetricConstructor<Histogram> for Buckets {
    fn new_metric(&self) -> Histogram {
        Histogram::new(self.0.iter().copied())
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Begins to measure; everything is at zero.
    pub fn new() -> Self {
        let inner = Inner {
            registry: Registry::default(),
            requests: Family::default(),
            request_seconds: Family::new_with_constructor(Buckets(&REQUEST_SECONDS)),
            streams: Gauge::default(),
            phase_seconds: Family::new_with_constructor(Buckets(&RUN_SECONDS)),
            runs_ended: Family::default(),
            run_seconds: Histogram::new(RUN_SECONDS),
            runs_released: Family::default(),
            sync_bytes: Family::default(),
            sync_seconds: Family::new_with_constructor(Buckets(&RUN_SECONDS)),
            backend_up: Family::default(),
            figures: Arc::default(),
        };
        Self(Arc::new(inner.registered()))
    }

    /// A request was answered; `route` is the pattern that it matched. A stream counts until its
    /// first byte.
    pub(crate) fn request_answered(
        &self,
        method: &str,
        route: Option<String>,
        status: u16,
        took: Duration,
    ) {
        let route = RouteLabels {
            route: route.unwrap_or_else(|| UNMATCHED.to_owned()),
        };
        self.0
            .request_seconds
            .get_or_create(&route)
            .observe(took.as_secs_f64());
        self.0
            .requests
            .get_or_create(&RequestLabels {
                method: MethodLabel::of(method),
                route: route.route,
                status,
            })
            .inc();
    }

    /// Counts a stream of events as open, until the guard is dropped.
    pub(crate) fn open_stream(&self) -> OpenStream {
        self.0.streams.inc();
        OpenStream(self.0.streams.clone())
    }

    /// All of it as text, with what was just read of the database.
    pub(crate) fn text(&self, figures: Figures) -> Result<String, fmt::Error> {
        self.0.figures.set(figures);
        let mut text = String::with_capacity(16 * 1024);
        text::encode(&mut text, &self.0.registry)?;
        Ok(text)
    }
}

impl Inner {
    fn registered(mut self) -> Self {
        let build = BuildLabels {
            version: env!("CARGO_PKG_VERSION"),
        };
        let registry = &mut self.registry;
        registry.register("atelier_build", "This program", Info::new(build));
        registry.register(
            "atelier_http_requests",
            "Requests that were answered",
            self.requests.clone(),
        );
        registry.register(
            "atelier_http_request_duration_seconds",
            "How long requests took to be answered, streams to their first byte",
            self.request_seconds.clone(),
        );
        registry.register(
            "atelier_http_streams",
            "Streams of events that are open",
            self.streams.clone(),
        );
        registry.register(
            "atelier_run_phase_seconds",
            "How long runs were in their phases",
            self.phase_seconds.clone(),
        );
        registry.register(
            "atelier_runs_ended",
            "Runs that are over",
            self.runs_ended.clone(),
        );
        registry.register(
            "atelier_run_seconds",
            "How long the last attempts at runs took, from claim to end",
            self.run_seconds.clone(),
        );
        registry.register(
            "atelier_runs_released",
            "Runs that went back into the queue",
            self.runs_released.clone(),
        );
        registry.register(
            "atelier_lora_sync_bytes",
            "Bytes of LoRAs that were copied to backends",
            self.sync_bytes.clone(),
        );
        registry.register(
            "atelier_lora_sync_seconds",
            "How long copies of LoRAs to backends took",
            self.sync_seconds.clone(),
        );
        registry.register(
            "atelier_backend_up",
            "Whether a backend answers",
            self.backend_up.clone(),
        );
        registry.register_collector(Box::new(Arc::clone(&self.figures)));
        registry.register_collector(Box::new(ProcessFigures));
        self
    }
}

impl Telemetry for Metrics {
    fn record(&self, measurement: Measurement) {
        match measurement {
            Measurement::PhaseEnded {
                backend,
                phase,
                took,
            } => {
                let phase = phase.as_str();
                let labels = PhaseLabels { phase, backend };
                let histogram = self.0.phase_seconds.get_or_create(&labels);
                histogram.observe(took.as_secs_f64());
            }
            Measurement::RunEnded {
                backend,
                status,
                code,
                took,
            } => {
                self.0.run_seconds.observe(took.as_secs_f64());
                let labels = EndLabels {
                    status: status.as_str(),
                    code: code.unwrap_or_default(),
                    backend,
                };
                self.0.runs_ended.get_or_create(&labels).inc();
            }
            Measurement::RunReleased { backend } => {
                let labels = BackendLabels { backend };
                self.0.runs_released.get_or_create(&labels).inc();
            }
            Measurement::LoraCopied {
                backend,
                bytes,
                took,
            } => {
                let labels = BackendLabels { backend };
                self.0.sync_bytes.get_or_create(&labels).inc_by(bytes);
                let histogram = self.0.sync_seconds.get_or_create(&labels);
                histogram.observe(took.as_secs_f64());
            }
            Measurement::BackendSeen { backend, answers } => {
                let labels = BackendLabels { backend };
                self.0
                    .backend_up
                    .get_or_create(&labels)
                    .set(i64::from(answers));
            }
            unknown => tracing::debug!(?unknown, "a measurement has no place here"),
        }
    }
}

/// A stream of events that is open.
#[derive(Debug)]
pub struct OpenStream(Gauge);

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// What was last read of the database. What could not be read is left out: an old number would be
/// taken for a new one.
#[derive(Debug, Default)]
struct LatestFigures(Mutex<Figures>);

impl LatestFigures {
    fn set(&self, figures: Figures) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = figures;
    }
}

impl Collector for LatestFigures {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let figures = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(queue) = figures.queue {
            gauge(
                &mut encoder,
                "atelier_queue_depth",
                "Runs that wait for a worker",
                queue.waiting,
            )?;
            gauge(
                &mut encoder,
                "atelier_queue_oldest_age_seconds",
                "How long the run that waits longest has waited",
                queue.oldest.as_secs_f64(),
            )?;
            gauge(
                &mut encoder,
                "atelier_runs_running",
                "Runs that a worker has",
                queue.running,
            )?;
        }
        if let Some(connections) = figures.connections {
            let mut family = encoder.encode_descriptor(
                "atelier_database_connections",
                "Connections to the database, and requests that wait for one",
                None,
                MetricType::Gauge,
            )?;
            for (state, count) in connections.by_state() {
                let labels = StateLabels { state };
                ConstGauge::new(count).encode(family.encode_family(&labels)?)?;
            }
        }
        Ok(())
    }
}

fn gauge<N>(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: N) -> fmt::Result
where
    ConstGauge<N>: prometheus_client::encoding::EncodeMetric,
{
    let gauge = ConstGauge::new(value);
    let metric = encoder.encode_descriptor(name, help, None, gauge.metric_type())?;
    gauge.encode(metric)
}
