//! The header of a safetensors file, read and checked while the file streams by.
//!
//! A file is 8 bytes of length (little-endian `N`), `N` bytes of JSON header, then the tensors' bytes; the rules are
//! those of the reference implementation (`reference/platform/PROTOCOLS.md` section 6.1), made stricter where it is
//! lenient with hostile files. [`HeaderReader`] takes the bytes as they come, in any chunks, and refuses a bad file
//! before the rest of it is read; [`HeaderReader::finish`] then refuses a file that was cut short or has bytes
//! appended. Nothing is ever executed: pickles are recognised by content and refused.

mod dtype;
mod error;
mod facts;
mod header;
mod parse;
mod reader;

pub use dtype::Dtype;
pub use error::{ForeignFormat, SafetensorsError};
pub use facts::lora_facts;
pub use header::{SafetensorsHeader, TensorInfo};
pub use reader::{HeaderReader, MAX_HEADER_BYTES, Progress};
