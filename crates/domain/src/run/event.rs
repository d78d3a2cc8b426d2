use chrono::{DateTime, Utc};
use serde_json::Value;

/// Something that happened to a run.
#[derive(Clone, Debug, PartialEq)]
pub struct RunEvent {
    /// Its place in the run's history, from 1, without gaps.
    pub sequence: i64,
    /// What sort of thing happened.
    pub kind: RunEventKind,
    /// The particulars, an object whose members depend on the kind.
    pub data: Value,
    /// When.
    pub created_at: DateTime<Utc>,
}

/// What sort of thing happened to a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunEventKind {
    /// Its status changed: `{"status": "...", "attempt": n}`.
    Status,
    /// Its phase changed: `{"phase": "..."}`.
    Phase,
    /// It went on: the members of [`RunProgress`](super::RunProgress).
    Progress,
    /// An output was stored: `{"index": n, "filename": "..."}`.
    Output,
    /// It failed: the members of [`RunFailure`](super::RunFailure).
    Error,
}

impl RunEventKind {
    /// Every kind.
    pub const ALL: [Self; 5] = [
        Self::Status,
        Self::Phase,
        Self::Progress,
        Self::Output,
        Self::Error,
    ];

    /// The word that the API and the database use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Phase => "phase",
            Self::Progress => "progress",
            Self::Output => "output",
            Self::Error => "error",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}
