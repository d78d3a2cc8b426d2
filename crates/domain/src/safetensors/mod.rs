//! The header of a safetensors file, read and checked while the file streams by.
//!
//! A file is 8 bytes of length (little-endian `N`), `N` bytes of JSON header, then the tensors' bytes; the rules are
//! those of the reference implementation (`reference/platform/PROTOCOLS.md` section 6.1), whose own crate decides what
//! tensors may be, made stricter where it is lenient with hostile files. [`HeaderReader`] takes the bytes as they come, in any chunks, and refuses a bad file
//! before the rest of it is read; [`HeaderReader::finish`] then refuses a file that was cut short or has bytes
//! appended. Nothing is ever executed: pickles are recognised by content and refused.

mod architecture;
mod blocks;
mod error;
mod facts;
mod family;
mod header;
mod layout;
mod naming;
mod network;
mod parse;
mod reader;
mod signs;
mod verdicts;

pub use architecture::family_of_architecture;
pub use error::{ForeignFormat, SafetensorsError};
pub use facts::lora_facts;
pub use header::{SafetensorsHeader, TensorInfo};
pub use reader::{HeaderReader, MAX_HEADER_BYTES, Progress};
pub use safetensors::Dtype;
