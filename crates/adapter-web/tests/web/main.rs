//! Imports from the web against hosts that do what real ones do, and worse:
//! over TLS, on loopback, under names of their own.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "what these stumble over is a failed test"
)]

mod download;
mod guard;
mod metadata;
mod redirects;
mod support;
