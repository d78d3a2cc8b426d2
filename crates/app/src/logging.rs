//! The log: structured, on the standard error.

use std::error::Error;
use std::fmt;
use std::io::{IsTerminal, stderr};

use thiserror::Error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::logging::{LogFormat, LoggingArguments};

/// A log that cannot be written as asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// A filter that is none.
    #[error("RUST_LOG is not a filter such as `info` or `atelier=debug`")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Somebody writes a log already.
    #[error("the log was begun twice")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// Begins the log; `unasked` is what is logged if nobody says.
pub fn begin(arguments: &LoggingArguments, unasked: &str) -> Result<(), LoggingError> {
    let asked = arguments.log_filter.as_deref().unwrap_or(unasked);
    let filter = EnvFilter::try_new(asked).map_err(LoggingError::Filter)?;
    let format = arguments.log_format.unwrap_or_else(|| {
        if stderr().is_terminal() {
            LogFormat::Human
        } else {
            LogFormat::Json
        }
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    let registry = tracing_subscriber::registry().with(filter);
    match format {
        LogFormat::Human => registry
            .with(lines.with_ansi(stderr().is_terminal()))
            .try_init(),
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    }
    .map_err(LoggingError::Twice)?;
    log_panics();
    Ok(())
}

/// Makes a panic a line like any other, with the span of the request that it
/// ended.
fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string);
        let message = panic.payload_as_str().unwrap_or("no message");
        tracing::error!(place, "panicked: {message}");
    }));
}

/// Shows an error with everything that led to it.
pub struct Chain<'a>(pub &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(formatter, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Debug for Chain<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}
