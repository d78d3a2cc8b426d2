//! LoRA models: what they are called, where they go, what is known of them.

mod base_model;
mod entity;
mod filename;
mod hash;
mod path;
mod version;

pub use base_model::*;
pub use entity::*;
pub use filename::*;
pub use hash::*;
pub use path::*;
pub use version::*;
