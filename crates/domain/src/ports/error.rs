use thiserror::Error;

/// What an adapter knows of a failure, for the log; never for a user.
pub type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a repository could not answer.
///
/// What is absent or somebody else's is not an error: repositories say
/// `Ok(None)` or a [`WriteOutcome`].
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RepoError {
    /// The store cannot be reached, or is too busy, just now; try again.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Source),
    /// What was to be written is in the way of something that is there.
    #[error("conflict with {0}")]
    Conflict(Conflict),
    /// The actor's account was deleted, while a token of theirs is good still:
    /// nothing can be theirs any more.
    #[error("the account is gone")]
    AccountGone,
    /// A stored row breaks a rule of the domain.
    #[error("table {table} holds a row that breaks a rule: column {column}, row {row}")]
    Inconsistent {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row's key.
        row: String,
    },
    /// Anything else: a defect.
    #[error("the database refused an operation")]
    Backend(#[source] Source),
}

/// What stands in the way of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Conflict {
    /// The actor has a LoRA of that filename.
    LoraFilename,
    /// The id is taken.
    Id,
}

impl std::fmt::Display for Conflict {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::LoraFilename => "a LoRA of the same filename",
            Self::Id => "a row of the same id",
        })
    }
}

/// How a write to one row ended.
#[derive(Clone, Debug, PartialEq)]
#[must_use]
pub enum WriteOutcome<T> {
    /// It is written; this is the row now.
    Done(T),
    /// There is no such row, or the actor does not see it.
    NotFound,
    /// The actor sees the row, and may not change it.
    NotYours,
    /// The row is in another state than the write needs: another revision than
    /// the caller knows, or a run that is over. This is the row now.
    Stale(T),
}
