//! Making a cluster and starting its server.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::binaries::Binaries;
use crate::directory::ClusterDirectory;
use crate::error::{Error, telling_line};
use crate::options::{ClusterOptions, Durability, Tcp, Tls};
use crate::orphan;
use crate::process::{self, LOCALE, ServerProcess};

/// The port of a server which has only a socket: a part of the socket's name.
pub(crate) const SOCKET_PORT: u16 = 5432;

/// How long the server may take until it accepts connections; after a crash it first replays its
/// journal.
const START_PATIENCE: Duration = Duration::from_mins(5);

const READY_POLL: Duration = Duration::from_millis(2);

/// How often another free port is tried when somebody else took the one chosen.
const PORT_ATTEMPTS: usize = 5;

/// A log longer than this, in bytes, is put aside at the next start.
const LONGEST_LOG: u64 = 16 * 1024 * 1024;

const THROW_AWAY: [&str; 7] = [
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "autovacuum=off",
    "wal_level=minimal",
    "max_wal_senders=0",
    "shared_buffers=64MB",
];

/// The signal for a server whose process here has died.
fn farewell(durability: Durability) -> Signal {
    match durability {
        Durability::Durable => Signal::INT,
        Durability::ThrowAway => Signal::QUIT,
    }
}

/// Makes a new cluster, elsewhere first: a half-made one is never taken for a whole one.
pub(crate) fn make_cluster(
    binaries: &Binaries,
    directory: &ClusterDirectory,
    options: &ClusterOptions,
) -> Result<(), Error> {
    let (unfinished, data) = (directory.unfinished_data(), directory.data());
    directory.make_for_server(&unfinished)?;
    let program = binaries.program("initdb");
    let mut command = process::command(&program, directory.account(), Signal::TERM);
    command
        .arg("--pgdata")
        .arg(&unfinished)
        .arg(format!("--username={}", options.superuser))
        .args([
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
            "--encoding=UTF8",
            "--no-instructions",
        ])
        .arg(format!("--locale={LOCALE}"));
    if options.durability == Durability::ThrowAway {
        command.arg("--no-sync");
    }
    let output = command
        .output()
        .map_err(|source| Error::Run { program, source })?;
    if !output.status.success() {
        let detail = telling_line(&String::from_utf8_lossy(&output.stderr));
        return Err(Error::Initdb { data, detail });
    }
    fs::rename(&unfinished, &data).map_err(Error::files("move the new cluster to", &data))?;
    if options.durability == Durability::Durable {
        let root = directory.root();
        File::open(root)
            .and_then(|root| root.sync_all())
            .map_err(Error::files("flush", root))?;
    }
    Ok(())
}

/// A server that accepts connections.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) server: ServerProcess,
    pub(crate) port: u16,
    pub(crate) tcp: Option<SocketAddr>,
}

/// Starts the server and waits until it accepts connections.
pub(crate) fn launch(
    binaries: &Binaries,
    directory: &ClusterDirectory,
    options: &ClusterOptions,
) -> Result<Launched, Error> {
    if let Some(tls) = &options.tls {
        write_tls(directory, tls)?;
    }
    let mut attempt = 1;
    loop {
        let port = match options.tcp {
            Tcp::Off => SOCKET_PORT,
            Tcp::Port(port) => port,
            Tcp::FreePort => free_port()?,
        };
        match launch_on(port, binaries, directory, options) {
            Ok(server) => {
                let tcp = (options.tcp != Tcp::Off)
                    .then(|| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
                return Ok(Launched { server, port, tcp });
            }
            // The server cannot choose a port itself, and between our choice and its start anybody
            // may take it.
            Err(Error::DidNotStart { detail, .. })
                if options.tcp == Tcp::FreePort
                    && attempt < PORT_ATTEMPTS
                    && detail.contains("TCP/IP socket") =>
            {
                attempt += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn launch_on(
    port: u16,
    binaries: &Binaries,
    directory: &ClusterDirectory,
    options: &ClusterOptions,
) -> Result<ServerProcess, Error> {
    let program = binaries.program("postgres");
    let mut command = process::command(&program, directory.account(), farewell(options.durability));
    command.arg("-D").arg(directory.data());
    for setting in settings(port, directory, options) {
        command.arg("-c").arg(setting);
    }
    let path = directory.log();
    let mut log = open_log(&path)?;
    let before = log
        .seek(SeekFrom::End(0))
        .map_err(Error::files("read", &path))?;
    let copy = log.try_clone().map_err(Error::files("open", &path))?;
    command.stdout(copy).stderr(log);
    let server = ServerProcess::spawn(command)?;

    let begun = Instant::now();
    while !is_ready(&directory.data(), server.pid()) {
        if server.has_exited() {
            let detail = telling_line(&read_from(&path, before));
            return Err(Error::DidNotStart {
                detail,
                log: directory.lasting_log(),
            });
        }
        if begun.elapsed() > START_PATIENCE {
            let detail = format!(
                "it accepts no connections after {} s",
                START_PATIENCE.as_secs()
            );
            return Err(Error::DidNotStart {
                detail,
                log: directory.lasting_log(),
            });
        }
        thread::sleep(READY_POLL);
    }
    Ok(server)
}

fn settings(port: u16, directory: &ClusterDirectory, options: &ClusterOptions) -> Vec<String> {
    let listen = if options.tcp == Tcp::Off {
        ""
    } else {
        "127.0.0.1"
    };
    let mut settings = vec![
        format!("port={port}"),
        format!("listen_addresses={listen}"),
        format!("unix_socket_directories={}", directory.socket().display()),
        // Whoever can reach the socket is let in without a password.
        "unix_socket_permissions=0700".to_owned(),
        "logging_collector=off".to_owned(),
        "log_destination=stderr".to_owned(),
        "timezone=UTC".to_owned(),
        "log_timezone=UTC".to_owned(),
    ];
    if options.durability == Durability::ThrowAway {
        settings.extend(THROW_AWAY.map(str::to_owned));
    }
    if options.tls.is_some() {
        settings.extend([
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", directory.certificate().display()),
            format!("ssl_key_file={}", directory.key().display()),
        ]);
    }
    settings.extend(
        options
            .settings
            .iter()
            .map(|(name, value)| format!("{name}={value}")),
    );
    settings
}

/// Writes certificate and key for the server to read, into the directory which only we can change.
///
/// The server refuses a key that others can read; one of root's may be readable by the server's
/// group.
fn write_tls(directory: &ClusterDirectory, tls: &Tls) -> Result<(), Error> {
    for (path, content) in [
        (directory.certificate(), &tls.certificate),
        (directory.key(), &tls.key),
    ] {
        let written = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .and_then(|mut file| file.write_all(content));
        written.map_err(Error::files("write", &path))?;
        if let Some(account) = directory.account() {
            chown(&path, None, Some(account.gid))
                .and_then(|()| fs::set_permissions(&path, Permissions::from_mode(0o640)))
                .map_err(Error::files("give the server's group", &path))?;
        }
    }
    Ok(())
}

fn free_port() -> Result<u16, Error> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(Error::files("find a free port on", Path::new("127.0.0.1")))
}

/// Opens the server's log, for us alone: failed statements are in it, with their values.
fn open_log(path: &Path) -> Result<File, Error> {
    if fs::metadata(path).is_ok_and(|metadata| metadata.len() > LONGEST_LOG) {
        fs::rename(path, path.with_extension("log.old"))
            .map_err(Error::files("put aside", path))?;
    }
    let opened = OpenOptions::new()
        .create(true)
        .read(true)
        .append(true)
        .mode(0o600)
        .open(path);
    opened.map_err(Error::files("open", path))
}

fn read_from(path: &Path, offset: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|mut file| {
        file.seek(SeekFrom::Start(offset))?;
        file.take(LONGEST_LOG).read_to_end(&mut bytes)
    });
    drop(read);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Tells whether the server accepts connections: it says so in the eighth line of its process file.
/// The first line must be its own number, as the file of a former server may still be there.
fn is_ready(data: &Path, pid: u32) -> bool {
    orphan::recorded_pid(data) == Some(pid)
        && fs::read_to_string(data.join("postmaster.pid")).is_ok_and(|text| {
            text.lines()
                .nth(7)
                .is_some_and(|line| line.trim() == "ready")
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_servers_own_word_counts_as_ready() {
        let data = tempfile::tempdir().unwrap();
        let write = |pid: u32, status: &str| {
            let text = format!("{pid}\n/data\n0\n5432\n/socket\n\n0 0\n{status}\n");
            fs::write(data.path().join("postmaster.pid"), text).unwrap();
        };

        assert!(!is_ready(data.path(), 77), "no file");
        write(77, "starting");
        assert!(!is_ready(data.path(), 77));
        write(77, "ready   ");
        assert!(is_ready(data.path(), 77));
        assert!(!is_ready(data.path(), 78), "the file of another server");
    }

    #[test]
    fn a_long_log_is_put_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("postgres.log");
        File::create(&path)
            .unwrap()
            .set_len(LONGEST_LOG + 1)
            .unwrap();

        let log = open_log(&path).unwrap();

        assert_eq!(log.metadata().unwrap().len(), 0);
        assert!(folder.path().join("postgres.log.old").exists());
    }
}
