//! Published keys: fetched, checked, and kept as long as `reference/platform/PROTOCOLS.md` section
//! 2.1 allows.

mod fetch;
mod jwk;
mod key_set;
mod options;
mod remote;
mod state;

pub use options::{RemoteKeysOptions, RemoteKeysOptionsError};
pub(crate) use remote::{KeysUnavailable, RemoteKeys};
