//! What the verifiers take and what they refuse, over real sockets, with keys
//! that are made here.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod cloudflare_verdicts;
mod key_cache;
mod options;
mod supabase_verdicts;
mod support;
