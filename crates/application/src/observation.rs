//! What is told about the work besides its outcome: measurements and traces. Whoever embeds this
//! crate and wants neither gives [`NotObserved`].

use atelier_domain::ports::{Measurement, Telemetry};
use tracing::Span;

/// The most bytes of a `traceparent`: one of version 00 has 55, later versions may have more.
pub(crate) const MAX_TRACE_PARENT: usize = 100;

/// Ties spans to traces that began in another process.
pub trait TraceContext: Send + Sync {
    /// Makes `span`, which nobody has entered yet, a part of the trace that `parent` names, a W3C
    /// `traceparent`. Does nothing where nobody traces, or the text is none.
    fn continue_from(&self, span: &Span, parent: &str);
}

/// Nobody measures, and nobody traces.
#[derive(Clone, Copy, Debug, Default)]
pub struct NotObserved;

impl Telemetry for NotObserved {
    fn record(&self, _measurement: Measurement) {}
}

impl TraceContext for NotObserved {
    fn continue_from(&self, _span: &Span, _parent: &str) {}
}
