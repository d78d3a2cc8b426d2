//! What the tests of the whole server are made of: a real Postgres, a real S3 server, a simulated
//! ComfyUI on real sockets, and the server itself as a process that can be killed.
//!
//! Nothing here sleeps for a fixed time: every wait is for something, and bounded.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test stops at the first surprise, and its support too"
)]

pub mod backend;
pub mod client;
pub mod database;
pub mod event_stream;
pub mod fleet;
mod guard;
pub mod imports;
pub mod lora_file;
pub mod people;
pub mod picture;
pub mod process;
pub mod raw_http;
pub mod scratch;
pub mod server;
pub mod site;
pub mod traces;
pub mod uploads;
pub mod workflows;
