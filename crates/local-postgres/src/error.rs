//! What can go wrong, told to the person in front of the machine.

use std::io;
use std::path::{Path, PathBuf};

/// Why a cluster could not be started or stopped.
///
/// Every message is one line which says what to do where something can be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No server programs were found, and none could be fetched.
    #[error(
        "no PostgreSQL server found ({tried}); install PostgreSQL 14 or newer \
         (Debian, Ubuntu: `apt-get install postgresql`, Fedora: `dnf install postgresql-server`, \
         macOS: `brew install postgresql@17`) or set ATELIER_POSTGRES_BIN to the folder that holds `postgres` and `initdb`"
    )]
    NoBinaries {
        /// What was looked at and tried, in one line.
        tried: String,
    },
    /// The cluster on disk belongs to a major version whose programs were not found.
    #[error(
        "the database in {} was made by PostgreSQL {major}, which was not found ({tried}); \
         install PostgreSQL {major}, or move that directory away to begin with an empty database",
        .data.display()
    )]
    MajorNotFound {
        /// The cluster's data directory.
        data: PathBuf,
        /// The major version that made it.
        major: u32,
        /// What was looked at and tried, in one line.
        tried: String,
    },
    /// The folder named by the operator cannot be used; nothing else is tried then.
    #[error("ATELIER_POSTGRES_BIN names {}, which cannot be used: {reason}", .directory.display())]
    NamedBinaries {
        /// The folder named.
        directory: PathBuf,
        /// Why it cannot be used.
        reason: String,
    },
    /// Another process runs a cluster in this directory.
    #[error(
        "{} is in use by another process{}; stop that one first",
        .directory.display(),
        display_pid(*.pid)
    )]
    InUse {
        /// The cluster's directory.
        directory: PathBuf,
        /// The process that uses it, if it could be told.
        pid: Option<u32>,
    },
    /// The data directory exists and holds something else than a cluster.
    #[error(
        "{} exists but holds no PostgreSQL cluster (no PG_VERSION in it); move it away",
        .data.display()
    )]
    NotACluster {
        /// The directory in question.
        data: PathBuf,
    },
    /// A file or a directory could not be made, read or changed.
    #[error("could not {action} {}", .path.display())]
    Files {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// A program could not be started at all.
    #[error("could not run {}", .program.display())]
    Run {
        /// The program.
        program: PathBuf,
        /// What the system answered.
        #[source]
        source: io::Error,
    },
    /// An option of the caller cannot be used.
    #[error("{option} cannot be used: {reason}")]
    Option {
        /// Which option.
        option: &'static str,
        /// Why not.
        reason: String,
    },
    /// `initdb` failed.
    #[error("could not make a database in {}: {detail}", .data.display())]
    Initdb {
        /// Where the cluster was to be.
        data: PathBuf,
        /// The last line that `initdb` wrote.
        detail: String,
    },
    /// The server ended, or was not ready in time.
    #[error("PostgreSQL did not start: {detail}{}", display_log(.log.as_deref()))]
    DidNotStart {
        /// The line of the log which tells most.
        detail: String,
        /// The server's log, `None` if it goes with its temporary directory.
        log: Option<PathBuf>,
    },
    /// The server did not end even when killed.
    #[error("PostgreSQL (process {pid}) does not stop; end it and try again")]
    DoesNotStop {
        /// The server's process.
        pid: u32,
    },
    /// No temporary directory fits: the path of a socket is limited to about a hundred bytes.
    #[error(
        "neither {} nor /tmp can hold the server's socket \
         (the path must be short and open to the server's user)",
        .temporary.display()
    )]
    NoSocketDirectory {
        /// The temporary directory of this process.
        temporary: PathBuf,
    },
}

impl Error {
    pub(crate) fn files(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Files {
            action,
            path,
            source,
        }
    }
}

fn display_pid(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" (process {pid})"))
        .unwrap_or_default()
}

fn display_log(log: Option<&Path>) -> String {
    log.map(|log| format!("; its log is {}", log.display()))
        .unwrap_or_default()
}

/// Returns the line of a program's output which tells most: the last error, else the last line.
pub(crate) fn telling_line(output: &str) -> String {
    const LONGEST: usize = 400;
    let lines = || {
        output
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty())
    };
    let severe = |line: &&str| {
        ["FATAL:", "PANIC:", "ERROR:", "error:"]
            .iter()
            .any(|mark| line.contains(mark))
    };
    lines()
        .rfind(severe)
        .or_else(|| lines().next_back())
        .unwrap_or("it said nothing")
        .chars()
        .take(LONGEST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_error_is_what_is_told() {
        let log = "LOG: starting\nFATAL:  could not bind\nLOG:  database system is shut down\n";

        assert_eq!(telling_line(log), "FATAL:  could not bind");
        assert_eq!(telling_line("one\ntwo\n\n"), "two");
        assert_eq!(telling_line(""), "it said nothing");
    }
}
