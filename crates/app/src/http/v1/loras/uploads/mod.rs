//! LoRAs in pieces: tus 1.0.0 (`reference/platform/PROTOCOLS.md` section 7.5).

pub(crate) mod append;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod get;
pub(crate) mod head;
mod metadata;
pub(crate) mod options;
mod receiving;

use atelier_domain::ids::LoraId;

use crate::http::PREFIX;

/// Where an upload is.
fn location(id: LoraId) -> String {
    format!("{PREFIX}/loras/uploads/{id}")
}
