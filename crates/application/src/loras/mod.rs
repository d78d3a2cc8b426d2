//! LoRAs: taking them in. Reading, listing and deleting them is the port's.

mod appending;
mod comparing;
mod details;
mod error;
mod import;
mod intake;
mod receiving;
mod resumable;
mod upload;

pub use appending::UploadAppending;
pub use details::LoraDetails;
pub use error::UploadLoraError;
pub use import::{ImportLora, ImportLoraError, ImportRequest, Imported, LoraAnswer};
pub use resumable::{NewUpload, ResumableError, ResumableUploads, UploadLimits};
pub use upload::{LoraUpload, UploadLora, Uploaded};

pub(crate) use intake::Intake;
pub(crate) use receiving::Received;
