//! A running cluster.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::binaries::Binaries;
use crate::directory::ClusterDirectory;
use crate::error::Error;
use crate::launch::{self, SOCKET_PORT};
use crate::options::{ClusterOptions, Durability};
use crate::orphan;
use crate::process::ServerProcess;
use crate::step::{Progress, Step};

/// How long a durable server may take to write everything down before it is stopped at once.
const STOP_PATIENCE: Duration = Duration::from_mins(1);

/// How long a server may take to end its other processes when stopped at once.
const QUIT_PATIENCE: Duration = Duration::from_secs(10);

/// A private PostgreSQL server, running until it is stopped, dropped, or this process ends.
#[derive(Debug)]
pub struct Cluster {
    // Fields are dropped in this order: the server ends before its directory is given up.
    server: ServerProcess,
    directory: ClusterDirectory,
    binaries: Binaries,
    durability: Durability,
    superuser: String,
    port: u16,
    tcp: Option<SocketAddr>,
}

impl Cluster {
    /// Starts a cluster and waits until it accepts connections; makes it first if there is none.
    ///
    /// `progress` is told each [`Step`]. The first start may fetch server programs, which takes as
    /// long as the network does; a later one takes some tens of milliseconds.
    ///
    /// # Errors
    /// [`Error::NoBinaries`], [`Error::MajorNotFound`] or [`Error::NamedBinaries`] without usable
    /// server programs; [`Error::InUse`] if another process runs this cluster; [`Error::Option`]
    /// for options that cannot be used; [`Error::DidNotStart`] and the others as they say.
    pub fn start(options: &ClusterOptions, progress: &mut Progress<'_>) -> Result<Self, Error> {
        let begun = Instant::now();
        options.check()?;
        let directory = ClusterDirectory::open(options, progress)?;
        let data = directory.data();
        let binaries =
            options
                .binaries
                .find(directory.major(), &data, directory.account(), progress)?;
        // We hold the lock, so whatever serves this directory was left by a killed process.
        orphan::stop(&data, Signal::INT, STOP_PATIENCE, progress)?;
        if directory.major().is_none() {
            progress(&Step::CreatingCluster { data: data.clone() });
            launch::make_cluster(&binaries, &directory, options)?;
        }
        progress(&Step::Starting { data });
        let launched = launch::launch(&binaries, &directory, options)?;
        progress(&Step::Ready {
            pid: launched.server.pid(),
            took: begun.elapsed(),
        });
        Ok(Self {
            server: launched.server,
            directory,
            binaries,
            durability: options.durability,
            superuser: options.superuser.clone(),
            port: launched.port,
            tcp: launched.tcp,
        })
    }

    /// Starts a throw-away cluster for tests, in a temporary directory, telling nobody.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn throw_away() -> Result<Self, Error> {
        Self::start(&ClusterOptions::in_temporary_directory(), &mut |_| {})
    }

    /// The address of `database` through the socket, as the superuser:
    /// `postgres://postgres@%2Ftmp%2Fx%2Fsocket/name`.
    pub fn url(&self, database: &str) -> String {
        self.url_for(&self.superuser, database)
    }

    /// The address of `database` through the socket, as `user`. No password is needed there.
    pub fn url_for(&self, user: &str, database: &str) -> String {
        let socket = percent_encoded(&self.socket_directory().to_string_lossy());
        let port = if self.port == SOCKET_PORT {
            String::new()
        } else {
            format!(":{}", self.port)
        };
        format!(
            "postgres://{}@{socket}{port}/{}",
            percent_encoded(user),
            percent_encoded(database)
        )
    }

    /// Where the server listens for TCP connections, if it was told to. A password is needed there.
    pub fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp
    }

    /// The folder of the server's socket.
    pub fn socket_directory(&self) -> PathBuf {
        self.directory.socket()
    }

    /// The port, which is part of the socket's name even without TCP.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The main process of the server.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// The directory of the cluster; not the one asked for if the server's user cannot reach that.
    pub fn directory(&self) -> &Path {
        self.directory.root()
    }

    /// The server's log.
    pub fn log(&self) -> PathBuf {
        self.directory.log()
    }

    /// The server programs in use.
    pub fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// Stops the server and waits for its end. A durable one writes everything down first; open
    /// transactions end.
    ///
    /// # Errors
    /// [`Error::DoesNotStop`] if it runs still after being killed.
    pub fn stop(self) -> Result<(), Error> {
        self.shut_down()
    }

    fn shut_down(&self) -> Result<(), Error> {
        if self.server.has_exited() {
            return Ok(());
        }
        let fast = (Signal::INT, STOP_PATIENCE);
        let at_once = [(Signal::QUIT, QUIT_PATIENCE), (Signal::KILL, QUIT_PATIENCE)];
        match self.durability {
            Durability::Durable => self
                .server
                .stop(&[fast])
                .or_else(|_| self.server.stop(&at_once)),
            Durability::ThrowAway => self.server.stop(&at_once),
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Nobody is left to be told; the next start on this directory deals with a server that
        // stayed.
        drop(self.shut_down());
    }
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_means_something_in_an_address_is_encoded() {
        assert_eq!(percent_encoded("/tmp/a b"), "%2Ftmp%2Fa%20b");
        assert_eq!(percent_encoded("ü@x?"), "%C3%BC%40x%3F");
        assert_eq!(percent_encoded("supabase_admin"), "supabase_admin");
    }

    #[test]
    fn a_cluster_can_live_in_a_static() {
        fn usable_from_every_thread<T: Send + Sync>() {}

        usable_from_every_thread::<Cluster>();
    }
}
