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
mod imports;
mod input_uploads;
mod preflight;
mod repeated_requests;
mod resumable_breaks;
mod resumable_uploads;
mod retrying;
mod submission;
mod submission_inputs;
mod submission_loras;
mod submission_versions;
mod support;
mod sync;
mod sync_room;
mod transfer_claims;
mod transfers;
mod uploads;
mod uploads_of_versions;
mod workflows;
