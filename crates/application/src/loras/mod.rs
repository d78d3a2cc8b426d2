//! LoRAs: taking them in. Reading, listing and deleting them is the port's.

mod details;
mod error;
mod receiving;
mod upload;

pub use details::LoraDetails;
pub use error::UploadLoraError;
pub use upload::{LoraUpload, UploadLora};
