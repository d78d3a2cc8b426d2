//! What a cluster should be like.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::binaries::BinarySearch;
use crate::error::Error;

/// Where a cluster goes when the server's user cannot reach the directory asked for.
const UNREACHABLE_FALLBACK: &str = "/var/lib/atelier";

/// How much a cluster's data is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Durability {
    /// Committed is committed: PostgreSQL's own settings.
    #[default]
    Durable,
    /// For tests: nothing is flushed to the disk, stopping takes no time, and a crash of the
    /// machine loses everything.
    ThrowAway,
}

/// Where and how to run a cluster.
///
/// ```
/// use atelier_local_postgres::{ClusterOptions, Durability};
///
/// let options = ClusterOptions::new(".atelier/postgres")
///     .durability(Durability::ThrowAway)
///     .superuser("supabase_admin")
///     .setting("log_statement", "all");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ClusterOptions {
    pub(crate) directory: Option<PathBuf>,
    pub(crate) durability: Durability,
    pub(crate) superuser: String,
    pub(crate) settings: Vec<(String, String)>,
    pub(crate) tcp: Tcp,
    pub(crate) tls: Option<Tls>,
    pub(crate) binaries: BinarySearch,
    pub(crate) unreachable_fallback: PathBuf,
}

/// Whether the server listens on the loopback address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tcp {
    Off,
    FreePort,
    Port(u16),
}

#[derive(Clone)]
pub(crate) struct Tls {
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: Vec<u8>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl ClusterOptions {
    /// A durable cluster in `directory`, which is made if need be.
    ///
    /// The directory is the launcher's: it holds the cluster in `data`, the server's log in
    /// `postgres.log`, and a lock.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: Some(directory.into()),
            ..Self::in_temporary_directory()
        }
        .durability(Durability::Durable)
    }

    /// A throw-away cluster in a new temporary directory, which is removed at the end.
    pub fn in_temporary_directory() -> Self {
        Self {
            directory: None,
            durability: Durability::ThrowAway,
            superuser: "postgres".to_owned(),
            settings: Vec::new(),
            tcp: Tcp::Off,
            tls: None,
            binaries: BinarySearch::from_environment(),
            unreachable_fallback: PathBuf::from(UNREACHABLE_FALLBACK),
        }
    }

    /// How much the data is worth.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// The name of the superuser (`postgres` unless told otherwise). It is fixed when the cluster
    /// is made: a later start must give the same.
    pub fn superuser(mut self, name: impl Into<String>) -> Self {
        self.superuser = name.into();
        self
    }

    /// A setting of the server, as in `postgres -c name=value`. The last one of a name wins, over
    /// ours too.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Listens on 127.0.0.1 as well, on a port that is free.
    ///
    /// Everybody on the machine can reach it, so a password is asked for there (SCRAM). A new
    /// cluster's superuser has none: give one to the role you need, through the socket.
    pub fn tcp(mut self) -> Self {
        self.tcp = Tcp::FreePort;
        self
    }

    /// As [`tcp`](Self::tcp), on this port.
    pub fn tcp_port(mut self, port: u16) -> Self {
        self.tcp = Tcp::Port(port);
        self
    }

    /// Offers TLS to TCP connections, with a certificate (chain) and its key, both PEM. They lie in
    /// a private directory while the server runs.
    pub fn tls(mut self, certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        self.tls = Some(Tls {
            certificate: certificate.into(),
            key: key.into(),
        });
        self
    }

    /// Where to look for the server programs.
    pub fn binaries(mut self, search: BinarySearch) -> Self {
        self.binaries = search;
        self
    }

    /// Where the cluster goes when we are root and the server's user cannot reach the directory
    /// asked for (`/var/lib/atelier` unless told otherwise). It gets a folder of its own there,
    /// named after that directory.
    pub fn unreachable_fallback(mut self, directory: impl Into<PathBuf>) -> Self {
        self.unreachable_fallback = directory.into();
        self
    }

    /// # Errors
    /// [`Error::Option`] naming the first one that cannot be used.
    pub(crate) fn check(&self) -> Result<(), Error> {
        let refuse = |option, reason: &str| {
            Err(Error::Option {
                option,
                reason: reason.to_owned(),
            })
        };
        if self.directory.as_deref() == Some(Path::new("")) {
            return refuse("the directory", "it is empty");
        }
        if self.superuser.is_empty()
            || self.superuser.starts_with("pg_")
            || self.superuser.contains('\0')
        {
            return refuse(
                "the superuser's name",
                "it must neither be empty nor begin with `pg_`",
            );
        }
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'.';
        for (name, value) in &self.settings {
            if name.is_empty() || !name.bytes().all(plain) {
                return refuse(
                    "a setting",
                    "its name may hold letters, digits, `_` and `.` only",
                );
            }
            if value.contains('\0') {
                return refuse("a setting", "its value holds a NUL byte");
            }
        }
        if self.tcp == Tcp::Port(0) {
            return refuse("the port", "0 is none; ask for a free one instead");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_not_shown() {
        let options = ClusterOptions::in_temporary_directory().tls("certificate", "secret-key");

        let shown = format!("{options:?}");

        assert!(
            !shown.contains("secret-key") && !shown.contains("115, 101, 99"),
            "{shown}"
        );
    }

    #[test]
    fn unusable_options_are_refused() {
        let good = ClusterOptions::in_temporary_directory;

        good().check().unwrap();
        good().setting("app.x", "any 'value'").check().unwrap();
        good().setting("a=b -c c", "1").check().unwrap_err();
        good().superuser("pg_root").check().unwrap_err();
        good().tcp_port(0).check().unwrap_err();
        ClusterOptions::new("").check().unwrap_err();
    }
}
