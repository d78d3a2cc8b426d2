//! The log, on the standard error.
//!
//! - `RUST_LOG`: what is logged, such as `info` or `atelier=debug`.
//! - `ATELIER_LOG_FORMAT`: `human` or `json`; human on a terminal, JSON elsewhere if not set.

use super::traces::TraceArguments;

/// How the log is told.
#[derive(Clone, Debug, clap::Args)]
pub struct LoggingArguments {
    /// What is logged, such as info or atelier=debug.
    ///
    /// Default: info; warn for `local`.
    #[arg(long = "log", env = "RUST_LOG", value_name = "FILTER")]
    pub log_filter: Option<String>,
    /// How it is written; human on a terminal and json elsewhere if not set.
    #[arg(long, env = "ATELIER_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
    /// Where traces go.
    #[command(flatten)]
    pub traces: TraceArguments,
}

/// How the log is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Human,
    /// One JSON object a line.
    Json,
}
