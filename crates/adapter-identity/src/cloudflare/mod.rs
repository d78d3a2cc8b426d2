//! Assertions of Cloudflare Access.

mod access;
mod claims;
mod options;

pub use access::CloudflareAccess;
pub use options::{CloudflareOptions, CloudflareOptionsError};
