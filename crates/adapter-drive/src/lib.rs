//! Google Drive: the adapter of the
//! [`RemoteSource`](atelier_domain::ports::RemoteSource) port for it.
//!
//! ```
//! # use std::sync::Arc;
//! # async fn example(clock: Arc<dyn atelier_domain::ports::Clock>) -> Result<(), Box<dyn std::error::Error>> {
//! use atelier_domain::ports::RemoteSource;
//! use atelier_drive::{DriveCredentials, DriveOptions, DriveVariables, GoogleDrive};
//!
//! let variables = DriveVariables {
//!     gdoc_token: Some(r#"{"refresh_token": "1//0e", "client_id": "123", "client_secret": "s"}"#),
//!     ..DriveVariables::default()
//! };
//! let options = DriveOptions {
//!     credentials: DriveCredentials::parse(&variables)?,
//!     ..DriveOptions::default()
//! };
//! let drive = GoogleDrive::new(options, clock, tokio::runtime::Handle::current())?;
//! let file = drive.metadata("https://drive.google.com/file/d/1AbCdEfGhIjK/view", None).await?;
//! # Ok(())
//! # }
//! ```
//!
//! What Drive really does stands in `reference/platform/PROTOCOLS.md` section
//! 4. No credential, and nothing that Google says in its own words, gets into
//! an error.

mod api_error;
mod backoff;
mod credentials;
mod download;
mod file_resource;
mod google_drive;
mod options;
mod reference;
mod requests;
mod token_endpoint;
mod tokens;
mod transport;

pub use credentials::{DriveCredentials, DriveCredentialsError, DriveVariables};
pub use google_drive::GoogleDrive;
pub use options::{DriveOptions, DriveOptionsError};
