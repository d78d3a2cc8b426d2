//! What the domain needs from the world, as traits.
//!
//! An adapter implements one of them; a use case takes them as
//! `Arc<dyn ...>`. One method is one atomic unit: what must happen together is
//! one method, and there is no transaction to hold open between two.
//!
//! With feature `mock`, each port has a mock made by `mockall`, named
//! `Mock...`.

mod api_tokens;
mod audit_trail;
mod blob_store;
mod clock;
mod comfy_client;
mod error;
mod external_identities;
mod input_repo;
mod lora_copies;
mod lora_folder;
mod lora_repo;
mod lora_transfers;
mod lora_uploads;
mod remote_source;
mod run_previews;
mod run_queue;
mod run_repo;
mod run_signals;
mod secret_gen;
mod telemetry;
mod token_verifier;
mod usage_repo;
mod workflow_repo;

pub use api_tokens::*;
pub use audit_trail::*;
pub use blob_store::*;
pub use clock::*;
pub use comfy_client::*;
pub use error::*;
pub use external_identities::*;
pub use input_repo::*;
pub use lora_copies::*;
pub use lora_folder::*;
pub use lora_repo::*;
pub use lora_transfers::*;
pub use lora_uploads::*;
pub use remote_source::*;
pub use run_previews::*;
pub use run_queue::*;
pub use run_repo::*;
pub use run_signals::*;
pub use secret_gen::*;
pub use telemetry::*;
pub use token_verifier::*;
pub use usage_repo::*;
pub use workflow_repo::*;

/// A stream of bytes that may break off; the chunks have any size.
pub type ByteStream<E> =
    std::pin::Pin<Box<dyn futures_core::Stream<Item = Result<bytes::Bytes, E>> + Send>>;
