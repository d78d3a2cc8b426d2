//! An identity provider's published keys inside the test process, over a real
//! socket, and the private keys that go with them: Supabase Auth's JWKS and
//! Cloudflare Access's certs (`reference/platform/PROTOCOLS.md` sections 2.1
//! and 3).
//!
//! ```
//! use atelier_testkit::jwks_double::{JwksDouble, SigningKey};
//! use serde_json::json;
//!
//! let key = SigningKey::es256("key-1");
//! let double = JwksDouble::start().expect("a free port");
//! double.publish(&[&key]);
//!
//! let token = key.sign(&json!({"iss": double.issuer(), "sub": "…"}));
//! assert_eq!(token.split('.').count(), 3);
//! assert_eq!(double.count(), 0);
//! ```

mod fault;
mod server;
mod signing_key;

pub use fault::KeysFault;
pub use server::JwksDouble;
pub use signing_key::{SigningKey, unsigned_token};
