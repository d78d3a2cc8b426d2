//! Atelier: a multi-user server in front of ComfyUI.
//!
//! This crate is the outermost ring: the HTTP edge ([`http`]), the command
//! line ([`cli`]), the configuration ([`config`]), and the one place where
//! every port meets its adapter ([`wiring`]).

pub mod cli;
pub mod clock;
pub mod config;
mod doctor;
mod healthcheck;
pub mod http;
mod local;
pub mod logging;
mod open_files;
pub mod server;
pub mod telemetry;
mod terminal;
pub mod wiring;

pub use cli::main;
