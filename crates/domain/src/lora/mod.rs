//! LoRA models: what they are called, where they go, what is known of them.

mod entity;
mod filename;
mod path;

pub use entity::*;
pub use filename::*;
pub use path::*;
