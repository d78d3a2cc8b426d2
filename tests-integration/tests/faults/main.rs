//! Runs that cannot be lost, doubled, or hang: processes that are killed, backends that fail in
//! every way known from the field, and a database that goes away, all under load.
//!
//! The witness is the simulator, which counts how often each prompt was taken in and executed.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod cancel;
mod chance;
mod fairness;
mod lost_backends;
mod matrix;
mod postgres;
mod restarts;
mod workers;

/// The server as it ships.
const ATELIER: &str = env!("CARGO_BIN_EXE_atelier-under-test");
