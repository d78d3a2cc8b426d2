//! Access tokens of Supabase Auth.

mod claims;
mod options;
mod tokens;

pub(crate) use claims::{AUTHENTICATED, Claims};
pub use options::{SupabaseOptions, SupabaseOptionsError};
pub use tokens::SupabaseTokens;
