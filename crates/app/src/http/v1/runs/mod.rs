//! Runs.

pub(crate) mod cancel;
pub(super) mod dto;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod output;
