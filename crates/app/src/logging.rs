//! The log: structured, on the standard error.

use std::error::Error;
use std::fmt;
use std::io::{IsTerminal, stderr};
use std::time::Duration;

use thiserror::Error;
use tokio::runtime::Handle;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry};

use crate::config::Mistakes;
use crate::config::logging::{LogFormat, LoggingArguments};
use crate::telemetry::{Traces, TracesError};

/// How long the last spans may take to be sent.
const LAST_SPANS: Duration = Duration::from_millis(500);

/// A log that cannot be written as asked.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum LoggingError {
    /// A filter that is none.
    #[error("RUST_LOG is not a filter such as `info` or `atelier=debug`")]
    Filter(#[source] tracing_subscriber::filter::ParseError),
    /// Traces that cannot be sent.
    #[error(transparent)]
    Traces(#[from] TracesError),
    /// Somebody writes a log already.
    #[error("the log was begun twice")]
    Twice(#[source] tracing_subscriber::util::TryInitError),
}

/// A log that is written, and the traces that are sent beside it.
#[derive(Debug)]
#[must_use = "the last spans are lost unless it is ended"]
pub struct Log {
    traces: Option<Traces>,
    mistakes: Mistakes,
}

impl Log {
    /// What is wrong with a configuration, together with what is wrong with that of traces.
    ///
    /// # Errors
    /// All of it.
    pub fn and<T>(&self, outcome: Result<T, Mistakes>) -> Result<T, Mistakes> {
        self.mistakes.clone().and(outcome)
    }

    /// Sends the last spans, for half a second at the most.
    pub async fn end(self) {
        if let Some(traces) = self.traces {
            traces.close(LAST_SPANS).await;
        }
    }
}

/// Begins the log, and traces where a collector is named; `unasked` is what is logged if nobody
/// says. What is wrong with the configuration of traces is told by [`Log::and`].
pub fn begin(arguments: &LoggingArguments, unasked: &str) -> Result<Log, LoggingError> {
    let mut mistakes = Mistakes::default();
    let traces = match arguments.traces.clone().check(&mut mistakes).flatten() {
        Some(config) => Some(Traces::open(&config, Handle::current())?),
        None => None,
    };
    let asked = arguments.log_filter.as_deref().unwrap_or(unasked);
    let filter = EnvFilter::try_new(asked).map_err(LoggingError::Filter)?;
    let lines = lines(arguments.log_format);
    match &traces {
        // Each has its own filter: what is not logged may be traced.
        Some(traces) => tracing_subscriber::registry()
            .with(lines.with_filter(filter))
            .with(traces.layer())
            .try_init(),
        // One filter for all costs least.
        None => tracing_subscriber::registry()
            .with(lines)
            .with(filter)
            .try_init(),
    }
    .map_err(LoggingError::Twice)?;
    log_panics();
    Ok(Log { traces, mistakes })
}

fn lines(format: Option<LogFormat>) -> Box<dyn Layer<Registry> + Send + Sync> {
    let format = format.unwrap_or_else(|| {
        if stderr().is_terminal() {
            LogFormat::Human
        } else {
            LogFormat::Json
        }
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(stderr);
    match format {
        LogFormat::Human => lines.with_ansi(stderr().is_terminal()).boxed(),
        LogFormat::Json => lines.json().flatten_event(true).boxed(),
    }
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
