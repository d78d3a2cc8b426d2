//! How the pool is doing.

use deadpool::Status;

/// The connections of one process's pool, at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PgConnections {
    /// Serve a request just now.
    pub in_use: usize,
    /// Are open and serve nobody.
    pub idle: usize,
    /// How many there may be.
    pub max: usize,
    /// Requests that wait for one.
    pub waiting: usize,
}

impl From<Status> for PgConnections {
    fn from(status: Status) -> Self {
        Self {
            in_use: status.size.saturating_sub(status.available),
            idle: status.available,
            max: status.max_size,
            waiting: status.waiting,
        }
    }
}
