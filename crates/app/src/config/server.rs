//! The HTTP server.
//!
//! - `ATELIER_LISTEN`: where the API listens.
//! - `ATELIER_MAX_LORA_BYTES`: the largest LoRA file.
//! - `ATELIER_HTTP_THREADS`: how many threads answer requests; as many as there are processors if
//!   not set.

use std::net::SocketAddr;
use std::num::NonZeroUsize;

use super::Mistakes;

const MAX_LORA_BYTES: &str = "ATELIER_MAX_LORA_BYTES";

/// How the server is told.
#[derive(Clone, Debug, clap::Args)]
pub struct ServerArguments {
    /// Where the API listens.
    #[arg(
        long,
        env = "ATELIER_LISTEN",
        value_name = "ADDRESS",
        default_value = "127.0.0.1:8080"
    )]
    pub listen: SocketAddr,
    /// The largest LoRA file, in bytes.
    #[arg(
        long,
        env = MAX_LORA_BYTES,
        value_name = "BYTES",
        default_value_t = 8 * 1024 * 1024 * 1024
    )]
    pub max_lora_bytes: u64,
    /// How many threads answer requests.
    #[arg(long, env = "ATELIER_HTTP_THREADS", value_name = "COUNT")]
    pub http_threads: Option<NonZeroUsize>,
}

/// How the server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServerConfig {
    /// Where.
    pub listen: SocketAddr,
    /// The largest LoRA file, in bytes.
    pub max_lora_bytes: u64,
    /// How many threads answer requests; `None` for one a processor.
    pub threads: Option<NonZeroUsize>,
}

impl ServerArguments {
    /// Checks the arguments.
    pub fn check(self, mistakes: &mut Mistakes) -> Option<ServerConfig> {
        if self.max_lora_bytes == 0 {
            mistakes.add(MAX_LORA_BYTES, "must be more than 0");
            return None;
        }
        Some(ServerConfig {
            listen: self.listen,
            max_lora_bytes: self.max_lora_bytes,
            threads: self.http_threads,
        })
    }
}
