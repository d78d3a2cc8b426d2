//! How to reach the database.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Where the database is and how many connections may be held to it.
#[derive(Clone)]
pub struct PgOptions {
    /// The address, a secret as a whole: `postgres://user:password@host:5432/name?sslmode=verify-full`, or
    /// `postgres://user@%2Frun%2Fpostgresql/name` for a socket in `/run/postgresql`.
    ///
    /// `sslmode` is one of those of libpq but `allow`, and `prefer` where there is none; `sslrootcert` is the path of a
    /// PEM file, or `system`. Prepared statements and `LISTEN` need a direct connection or a pooler in session mode
    /// (Supabase: port 5432, not 6543; `reference/platform/PROTOCOLS.md` section 1.5).
    pub url: String,
    /// A PEM file with the certificates to trust instead of the system's; wins over the address's `sslrootcert`.
    pub root_certificate: Option<PathBuf>,
    /// How many connections the pool holds at the most; one more listens for signals. Too few and requests wait for
    /// each other; more than a few for each core of the database server slow that down.
    pub max_connections: usize,
    /// How long a request waits for a connection before it is told to come back later.
    pub wait_timeout: Duration,
}

impl PgOptions {
    /// Sixteen connections, five seconds.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            root_certificate: None,
            max_connections: 16,
            wait_timeout: Duration::from_secs(5),
        }
    }
}

/// Leaves the address out: it holds the password.
impl fmt::Debug for PgOptions {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("PgOptions")
            .field("root_certificate", &self.root_certificate)
            .field("max_connections", &self.max_connections)
            .field("wait_timeout", &self.wait_timeout)
            .finish_non_exhaustive()
    }
}

/// Options that cannot work, whatever the database does. No text of the address is in the message.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PgOpenError {
    /// The address is malformed.
    #[error("the database address is not usable: {0}")]
    Address(String),
    /// The file with the root certificates cannot be used.
    #[error("the database's root certificate {} is not usable: {reason}", path.display())]
    RootCertificate {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The database's certificate is to be checked, and nothing says against what.
    #[error(
        "the database's certificate is to be verified, but this system has no root certificates; name a file with \
         sslrootcert"
    )]
    NoRootCertificates,
    /// A number is out of range.
    #[error("{0}")]
    Limit(&'static str),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let options = PgOptions::new("postgres://app:hunter2@db.example/atelier");

        assert!(!format!("{options:?}").contains("hunter2"));
    }
}
