//! The whole server over HTTP: a process with a real Postgres, real sockets and real files.
//!
//! Tests share one server ([`house`]) unless they have to kill it, or to start it differently;
//! each is about people whom no other test knows.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

mod bad_graphs;
mod bad_input;
mod bad_loras;
mod bad_tokens;
mod commands;
mod crash;
mod doors;
mod health;
mod house;
mod input_pictures;
mod isolation;
mod lists;
mod local;
mod lora_files;
mod lora_import_credentials;
mod lora_import_requests;
mod lora_imports;
mod lora_library;
mod lora_references;
mod lora_upload_requests;
mod lora_uploads_in_pieces;
mod lora_versions;
mod main_job;
mod memory;
mod preflight;
mod run_events;
mod run_requests;
mod runs;
mod trouble;
mod workflows;
