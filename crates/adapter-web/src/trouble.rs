use std::time::Duration;

use atelier_domain::ports::RemoteError;
use thiserror::Error;

/// What happened, for the log. Nothing here holds an address that somebody
/// gave or was sent to, beyond its host.
#[derive(Debug, Error)]
pub(crate) enum Trouble {
    #[error("{host} answered with status {status}")]
    Status { host: String, status: u16 },
    #[error("no answer began within {} ms", .0.as_millis())]
    NoAnswer(Duration),
    #[error("no byte came for {} ms", .0.as_millis())]
    Stalled(Duration),
    #[error("the bytes ended too early")]
    CutShort,
    #[error("the runtime for network I/O has stopped")]
    RuntimeGone,
    #[error("{0}")]
    Nonsense(&'static str),
}

impl Trouble {
    /// Not now, for this reason.
    pub(crate) fn unavailable(self) -> RemoteError {
        self.unavailable_for(None)
    }

    /// Not now, for this reason, and for so long.
    pub(crate) fn unavailable_for(self, retry_after: Option<Duration>) -> RemoteError {
        RemoteError::Unavailable {
            retry_after,
            source: Box::new(self),
        }
    }
}

/// An answer that makes no sense: what it says.
pub(crate) fn nonsense(what: &'static str) -> RemoteError {
    RemoteError::Backend(Box::new(Trouble::Nonsense(what)))
}
