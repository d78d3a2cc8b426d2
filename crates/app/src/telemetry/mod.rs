//! What the process tells about itself to whoever runs it.
//!
//! Measurements ([`Metrics`]) are read from outside, whenever somebody asks. They hold no names and
//! no texts of people's: what a label may be is decided here, not by who sends requests. Traces
//! ([`Traces`]) go to a collector, if there is one.

mod collector;
pub mod figures;
mod labels;
mod metrics;
mod process;
mod traces;

pub use metrics::{Metrics, OpenStream};
pub use traces::{Traces, TracesError, W3cTraces};
pub(crate) use traces::{begin_request, current_trace_id, current_trace_parent, end_request};
