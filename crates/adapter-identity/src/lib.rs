//! Who sends a request: the [`TokenVerifier`](atelier_domain::ports::TokenVerifier) adapter.
//!
//! [`SupabaseTokens`] verifies the access tokens of Supabase Auth, the legacy kind that is signed
//! with the project's JWT secret (HS256). The checks and their order are those of
//! `reference/platform/PROTOCOLS.md` section 2.3; every refusal says, to the bearer of the token,
//! which check failed, and never what the token holds.
//!
//! [`sign_access_token`] makes such tokens, for local use and for tests.

mod claims;
mod sign;
mod supabase;

pub use sign::{AccessToken, SignError, sign_access_token};
pub use supabase::{SupabaseOptions, SupabaseOptionsError, SupabaseTokens};
