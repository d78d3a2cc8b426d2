//! Everything that needs a real PostgreSQL, in one binary: one cluster of each kind for all of it.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "everything here runs inside tests, where a panic is the report"
)]

mod audit;
mod conformance;
mod diagnosis;
mod expected_functions;
mod expected_rights;
mod identities;
mod leaks;
mod lists;
mod lora_migration;
mod lora_paths;
mod lora_plans;
mod lora_races;
mod migrations;
mod policies;
mod round_trips;
mod run_engine;
mod signals;
mod support;
mod tls;
mod unavailable;
mod uniqueness;
mod words;
