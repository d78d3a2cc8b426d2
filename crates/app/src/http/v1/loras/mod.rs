//! LoRAs.

pub(crate) mod content;
pub(crate) mod delete;
mod dto;
mod form;
pub(crate) mod get;
mod import;
pub(crate) mod import_from_google_drive;
pub(crate) mod import_from_url;
pub(crate) mod list;
pub(crate) mod prefetch;
pub(crate) mod system;
pub(crate) mod upload;
pub(crate) mod uploads;
pub(crate) mod versions;
