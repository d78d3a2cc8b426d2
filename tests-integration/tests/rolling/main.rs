//! Processes that are replaced while people work: nothing is lost, nobody is
//! told of a failure, and each process ends in time.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod balancer;
mod departures;
mod restarts;
mod visitor;

/// The server as it ships.
const ATELIER: &str = env!("CARGO_BIN_EXE_atelier-under-test");
