//! What happens during a start, for whoever waits for it.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// One step of a start. Its `Display` is a sentence for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// A folder with server programs was passed over.
    SkippedBinaries {
        /// The folder.
        directory: PathBuf,
        /// Why.
        reason: String,
    },
    /// These server programs are used.
    FoundBinaries {
        /// The folder.
        directory: PathBuf,
        /// The version, as the server tells it.
        version: String,
    },
    /// No usable server programs are on this machine; they are fetched.
    Fetching,
    /// A program of the system is run to fetch them.
    Running {
        /// The command line.
        command: String,
    },
    /// That way of fetching server programs did not work.
    FetchFailed {
        /// Why.
        reason: String,
    },
    /// The administrator's choice about clusters made by the package was left as it is.
    KeptPackageConfiguration {
        /// The file.
        path: PathBuf,
    },
    /// A downloaded archive is unpacked.
    Unpacking {
        /// Where to.
        directory: PathBuf,
    },
    /// The user the server runs as cannot reach the directory asked for; the cluster is elsewhere.
    Moved {
        /// The directory asked for.
        asked: PathBuf,
        /// The directory used.
        used: PathBuf,
        /// The user who cannot reach the directory asked for.
        user: String,
    },
    /// Leftovers of a process that was killed were removed.
    Swept {
        /// What was removed.
        path: PathBuf,
    },
    /// A server left by a killed process is stopped first.
    StoppingOrphan {
        /// Its process.
        pid: u32,
    },
    /// The process file of a server that is gone was removed.
    RemovedStaleProcessFile {
        /// The file.
        path: PathBuf,
    },
    /// A new cluster is made.
    CreatingCluster {
        /// Its data directory.
        data: PathBuf,
    },
    /// The server is started.
    Starting {
        /// Its data directory.
        data: PathBuf,
    },
    /// The server takes connections.
    Ready {
        /// Its process.
        pid: u32,
        /// Time since the start was asked for.
        took: Duration,
    },
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SkippedBinaries { directory, reason } => {
                write!(
                    f,
                    "passing over PostgreSQL in {}: {reason}",
                    directory.display()
                )
            }
            Self::FoundBinaries { directory, version } => {
                write!(f, "using PostgreSQL {version} in {}", directory.display())
            }
            Self::Fetching => f.write_str(
                "there is no PostgreSQL on this machine that can be used; fetching it \
                 (ATELIER_POSTGRES_NO_FETCH=1 forbids this)",
            ),
            Self::Running { command } => write!(f, "running: {command}"),
            Self::FetchFailed { reason } => write!(f, "that did not work: {reason}"),
            Self::KeptPackageConfiguration { path } => write!(
                f,
                "{} already says whether packages make a cluster of their own; leaving it",
                path.display()
            ),
            Self::Unpacking { directory } => {
                write!(f, "unpacking PostgreSQL into {}", directory.display())
            }
            Self::Moved { asked, used, user } => write!(
                f,
                "user {user}, who runs the database, cannot reach {}; it is in {} instead",
                asked.display(),
                used.display()
            ),
            Self::Swept { path } => {
                write!(f, "removed {}, left by a killed process", path.display())
            }
            Self::StoppingOrphan { pid } => {
                write!(
                    f,
                    "stopping PostgreSQL (process {pid}), left by a killed process"
                )
            }
            Self::RemovedStaleProcessFile { path } => {
                write!(f, "removed {}: its server is gone", path.display())
            }
            Self::CreatingCluster { data } => {
                write!(f, "making a new database in {}", data.display())
            }
            Self::Starting { data } => write!(f, "starting PostgreSQL on {}", data.display()),
            Self::Ready { pid, took } => {
                write!(
                    f,
                    "PostgreSQL (process {pid}) is ready after {} ms",
                    took.as_millis()
                )
            }
        }
    }
}

/// Who is told of the steps.
pub(crate) type Progress<'a> = dyn FnMut(&Step) + 'a;
