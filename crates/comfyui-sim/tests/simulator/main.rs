//! The simulator over real sockets, held against what was recorded from the real server.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test that cannot set itself up, or that finds something else than expected, has failed"
)]

mod binary;
mod cache;
mod faults;
mod fixtures;
mod loras;
mod pictures;
mod queue;
mod recorded;
mod restart;
mod running;
mod sockets;
mod support;
