//! Google Drive inside the test process: files, ranges, errors and a token
//! endpoint over a real socket, as `reference/platform/PROTOCOLS.md` section 4
//! describes them.
//!
//! ```
//! use atelier_testkit::drive_double::{Content, DriveDouble, DriveFile, Endpoint, Fault};
//!
//! let double = DriveDouble::start().expect("a free port");
//! double.put(DriveFile::blob("1AbCdEfGhIjK", "style.safetensors", Content::bytes("the bytes")));
//! // The first download breaks off after four bytes, the second one is told to come back later.
//! double.fail_next(Endpoint::Download, Fault::CutAfter(4));
//! double.fail_next(Endpoint::Download, Fault::api(429, "rateLimitExceeded"));
//!
//! assert!(double.api_base_url().ends_with("/drive/v3"));
//! assert!(double.gdoc_token().contains("refresh_token"));
//! ```
//!
//! [`Content`] may have gibibytes that nobody holds: it is made where it is
//! read. Nothing is throttled, and nothing is kept but the log of requests.

mod answer;
mod api;
mod content;
mod fault;
mod file;
mod log;
mod server;
mod state;
mod token;

pub use content::Content;
pub use fault::{Endpoint, Fault};
pub use file::DriveFile;
pub use log::DriveRequest;
pub use server::DriveDouble;
