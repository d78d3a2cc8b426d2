//! Input pictures.

pub(crate) mod content;
pub(crate) mod delete;
mod dto;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod upload;
