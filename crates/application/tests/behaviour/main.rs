//! What the use cases and the dispatcher do, on fakes of the ports; tokio's
//! clock stands still and jumps, so nothing here waits for real time.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "everything here runs inside tests, where a panic is the report"
)]

mod awaiting;
mod catalogue;
mod dispatch;
mod following;
mod repeated_requests;
mod retrying;
mod submission;
mod submission_loras;
mod support;
mod sync;
mod uploads;
mod workflows;
