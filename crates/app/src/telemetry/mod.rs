//! What the process tells about itself to whoever runs it.
//!
//! Measurements ([`Metrics`]) are read from outside, whenever somebody asks. They hold no names and
//! no texts of people's: what a label may be is decided here, not by who sends requests.

pub mod figures;
mod labels;
mod metrics;
mod process;

pub use metrics::{Metrics, OpenStream};
