//! Input files: taking them in. Reading, listing and deleting them is the port's.

mod error;
mod receiving;
mod upload;

pub use error::UploadInputError;
pub use upload::{InputUpload, UploadInput, UploadedInput};
