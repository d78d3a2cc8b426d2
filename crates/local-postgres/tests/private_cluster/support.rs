//! What the tests of a running cluster share.

#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use atelier_local_postgres::{Cluster, ClusterOptions, Durability, Step};
use tempfile::TempDir;

/// A temporary folder which the server's user can enter.
pub(crate) fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let path = folder.path().canonicalize().unwrap();
    (folder, path)
}

/// One cluster for all tests that change nothing in it.
pub(crate) fn shared() -> &'static Cluster {
    static SHARED: OnceLock<Cluster> = OnceLock::new();
    SHARED.get_or_init(|| Cluster::throw_away().unwrap())
}

/// A cluster in a folder of the caller's, quick to make, which keeps what was committed when it is
/// stopped at once.
pub(crate) fn quick(directory: &Path) -> ClusterOptions {
    ClusterOptions::new(directory)
        .durability(Durability::ThrowAway)
        .setting("synchronous_commit", "on")
}

pub(crate) fn start(options: &ClusterOptions) -> Cluster {
    start_told(options).0
}

pub(crate) fn start_told(options: &ClusterOptions) -> (Cluster, Vec<Step>) {
    let mut steps = Vec::new();
    let cluster = Cluster::start(options, &mut |step| steps.push(step.clone())).unwrap();
    (cluster, steps)
}

/// Runs a statement at `address` and returns what `psql` wrote: the values, or the error.
pub(crate) fn psql(cluster: &Cluster, address: &str, statement: &str) -> Result<String, String> {
    let output = psql_at(cluster, address, statement).output().unwrap();
    if output.status.success() {
        return Ok(String::from_utf8(output.stdout).unwrap().trim().to_owned());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Prepares a client whose output nobody reads.
pub(crate) fn psql_command(cluster: &Cluster, statement: &str) -> Command {
    let mut command = psql_at(cluster, &cluster.url("postgres"), statement);
    command.stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn psql_at(cluster: &Cluster, address: &str, statement: &str) -> Command {
    let beside = cluster.binaries().program("psql");
    let mut command = Command::new(if beside.exists() {
        beside
    } else {
        PathBuf::from("psql")
    });
    command
        .args([
            "--no-psqlrc",
            "--no-password",
            "--tuples-only",
            "--no-align",
            "--quiet",
        ])
        .args(["--dbname", address, "--command", statement])
        .env_remove("PGPASSWORD");
    command
}

pub(crate) fn query(cluster: &Cluster, statement: &str) -> String {
    psql(cluster, &cluster.url("postgres"), statement).unwrap()
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state comes after the name; a zombie is dead, its parent has not looked yet.
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

pub(crate) fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}

#[track_caller]
pub(crate) fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(
            begun.elapsed() < Duration::from_secs(20),
            "waited too long until {what}"
        );
        thread::sleep(Duration::from_millis(5));
    }
}

/// The program of this crate, running a cluster.
pub(crate) struct Launcher {
    pub(crate) child: Child,
    /// The address of its cluster.
    pub(crate) address: String,
}

impl Launcher {
    pub(crate) fn start(arguments: &[&OsStr]) -> Self {
        Self::run(Command::new(env!("CARGO_BIN_EXE_atelier-local-postgres")).args(arguments))
    }

    /// As the user `uid`, from a copy that this user can reach.
    pub(crate) fn start_as(uid: u32, folder: &Path, arguments: &[&OsStr]) -> Self {
        let copy = folder.join("launcher");
        fs::copy(env!("CARGO_BIN_EXE_atelier-local-postgres"), &copy).unwrap();
        fs::set_permissions(&copy, Permissions::from_mode(0o755)).unwrap();
        Self::run(
            Command::new(copy)
                .args(arguments)
                .current_dir("/")
                .uid(uid)
                .gid(uid),
        )
    }

    fn run(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(child.stdout.as_mut().unwrap())
            .read_line(&mut address)
            .unwrap();
        assert!(
            address.starts_with("postgres://"),
            "the launcher did not start: {address:?}"
        );
        Self {
            child,
            address: address.trim().to_owned(),
        }
    }

    /// The private directory that holds its socket.
    pub(crate) fn private_directory(&self) -> PathBuf {
        let host = self
            .address
            .split('@')
            .nth(1)
            .unwrap()
            .split(['/', ':'])
            .next()
            .unwrap();
        PathBuf::from(host.replace("%2F", "/"))
            .parent()
            .unwrap()
            .to_path_buf()
    }

    /// Ends it without giving it a chance to do anything.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The main process of the server on `directory`.
pub(crate) fn server_of(directory: &Path) -> u32 {
    let text = fs::read_to_string(directory.join("data/postmaster.pid")).unwrap();
    text.lines().next().unwrap().parse().unwrap()
}
