//! Runs.

pub(crate) mod cancel;
pub(super) mod dto;
mod event_stream;
pub(crate) mod events;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod output;
pub(super) mod request;
pub(crate) mod retry;
