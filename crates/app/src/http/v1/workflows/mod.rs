//! Workflows.

pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod dto;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod patch;
mod precondition;
pub(crate) mod preflight;
pub(crate) mod replace;
pub(crate) mod run;
pub(crate) mod runs;
