//! A real S3 server inside the test process: signatures, multipart uploads and
//! ranges over a real socket, the objects in a temporary folder. For tests
//! only; it knows no other crate of ours.
//!
//! ```
//! let double = atelier_s3_double::S3Double::start().expect("a free port");
//! assert!(double.endpoint().starts_with("http://127.0.0.1:"));
//! ```
//!
//! It is `s3s-fs` with three of its holes closed
//! (`reference/components.md` section B.3): a bucket that does not exist is
//! refused, a conditional PUT is atomic, and keys may be as long as S3's. What
//! is left: `f` and `f/g` cannot both be objects. Large objects come and go at
//! the pace of a server that is meant for them.

mod counting;
mod gate;
mod long_keys;
mod multipart;
mod server;

pub use gate::Gate;
pub use server::S3Double;
