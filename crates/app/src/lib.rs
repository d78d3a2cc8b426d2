//! Atelier: a multi-user server in front of ComfyUI.
//!
//! This crate is the outermost ring: the HTTP edge ([`http`]), the
//! configuration ([`config`]), the command line, and the one place where every
//! port meets its adapter.

pub mod clock;
pub mod config;
pub mod http;
pub mod logging;
