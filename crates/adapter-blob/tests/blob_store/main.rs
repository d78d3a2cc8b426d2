//! The adapter on memory, on a folder and on a real S3 server.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what these stumble over is a failed test"
)]

mod conformance;
mod contract;
mod folder;
mod s3;
mod support;
