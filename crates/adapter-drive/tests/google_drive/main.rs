//! The adapter against a Drive over a real socket.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod credentials;
mod downloads;
mod errors;
mod metadata;
mod secrets;
mod site;
mod tokens;
