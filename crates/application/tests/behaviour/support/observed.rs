use std::sync::Mutex;

use atelier_application::observation::TraceContext;
use atelier_domain::ports::{Measurement, Telemetry};
use tracing::Span;

/// Remembers what a worker measured, and which traces it went on with.
#[derive(Default)]
pub(crate) struct Observed {
    measurements: Mutex<Vec<Measurement>>,
    parents: Mutex<Vec<String>>,
}

impl Observed {
    /// What was measured, but for looks at backends.
    pub(crate) fn of_runs(&self) -> Vec<Measurement> {
        let mut all = self.measurements.lock().unwrap().clone();
        all.retain(|measurement| !matches!(measurement, Measurement::BackendSeen { .. }));
        all
    }

    /// Whether the backend answered, look by look.
    pub(crate) fn looks_at(&self, name: &str) -> Vec<bool> {
        let all = self.measurements.lock().unwrap();
        let looks = all.iter().filter_map(|measurement| match measurement {
            Measurement::BackendSeen { backend, answers } if backend == name => Some(*answers),
            _ => None,
        });
        looks.collect()
    }

    pub(crate) fn parents(&self) -> Vec<String> {
        self.parents.lock().unwrap().clone()
    }
}

impl Telemetry for Observed {
    fn record(&self, measurement: Measurement) {
        self.measurements.lock().unwrap().push(measurement);
    }
}

impl TraceContext for Observed {
    fn continue_from(&self, _span: &Span, parent: &str) {
        self.parents.lock().unwrap().push(parent.to_owned());
    }
}
