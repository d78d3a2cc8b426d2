//! Who sends a request: the [`TokenVerifier`](atelier_domain::ports::TokenVerifier) adapters.
//!
//! [`SupabaseTokens`] verifies the access tokens of Supabase Auth: ES256 and RS256 with the keys
//! that the project publishes, HS256 with its JWT secret. [`CloudflareAccess`] verifies the
//! assertions that Cloudflare Access puts in front of an application. The checks and their order
//! are those of `reference/platform/PROTOCOLS.md` sections 2.3 and 3; every refusal says, to the
//! bearer of the token, which check failed, and never what the token holds.
//!
//! ```
//! # use std::sync::Arc;
//! # async fn example(clock: Arc<dyn atelier_domain::ports::Clock>) -> Result<(), Box<dyn std::error::Error>> {
//! use atelier_domain::ports::TokenVerifier;
//! use atelier_identity::{RemoteKeysOptions, SupabaseOptions, SupabaseTokens};
//!
//! let issuer = "https://abcdefghijklmnopqrst.supabase.co/auth/v1";
//! let options = SupabaseOptions {
//!     issuer: Some(issuer.to_owned()),
//!     jwks: Some(RemoteKeysOptions::at(format!("{issuer}/.well-known/jwks.json"))),
//!     ..SupabaseOptions::default()
//! };
//! let tokens = SupabaseTokens::new(options, clock, tokio::runtime::Handle::current())?;
//! let identity = tokens.verify("eyJhbGciOiJFUzI1NiIsImtpZCI6...").await?;
//! # Ok(())
//! # }
//! ```
//!
//! Published keys are kept in memory. Verifying a token of a known key asks nobody: it takes
//! microseconds, also while the keys are being fetched anew. Only a token of a key that was never
//! seen waits for a fetch, and no flood of such tokens causes more than one fetch in half a minute
//! (section 2.1).
//!
//! [`sign_access_token`] makes HS256 tokens, for local use and for tests.

mod algorithm;
mod claims;
mod cloudflare;
mod jws;
mod keys;
mod refusal;
mod sign;
mod supabase;

pub use algorithm::SignatureAlgorithm;
pub use cloudflare::{CloudflareAccess, CloudflareOptions, CloudflareOptionsError};
pub use keys::{RemoteKeysOptions, RemoteKeysOptionsError};
pub use sign::{AccessToken, SignError, sign_access_token};
pub use supabase::{SupabaseOptions, SupabaseOptionsError, SupabaseTokens};
