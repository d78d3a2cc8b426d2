//! LoRAs.

pub(crate) mod content;
pub(crate) mod delete;
mod dto;
mod form;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod upload;
