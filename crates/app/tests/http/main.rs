//! The HTTP edge on the fakes of `atelier-testkit`: what goes in, what comes
//! out, and what every mistake is answered with.
#![expect(
    clippy::expect_used,
    clippy::future_not_send,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "everything here runs inside tests, on one thread, and a panic is the report"
)]

mod auth;
mod bodies;
mod documents;
mod draining;
mod files;
mod health;
mod inputs;
mod limits;
mod lists;
mod logs;
mod lora_imports;
mod lora_pieces;
mod lora_uploads;
mod lora_versions;
mod loras;
mod metrics;
mod outages;
mod preflight;
mod run_events;
mod run_requests;
mod runs;
mod sign_in;
mod sockets;
mod support;
mod system_loras;
mod traces;
mod workflows;
