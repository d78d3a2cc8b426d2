//! Personal tokens.

pub(crate) mod create;
pub(crate) mod delete;
mod dto;
pub(crate) mod list;
