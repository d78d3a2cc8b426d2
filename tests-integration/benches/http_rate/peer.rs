//! The same routes in Python: `FastAPI` and asyncpg, in `benches/peer`.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use atelier_tests_integration::people::JWT_SECRET;
use atelier_tests_integration::process::Process;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/peer");

const START: Duration = Duration::from_mins(1);

/// The peer, running.
#[derive(Debug)]
pub(crate) struct Peer {
    process: Process,
    pub(crate) address: SocketAddr,
}

impl Peer {
    /// Starts it with two workers on a database.
    pub(crate) fn start(database_url: &str) -> Self {
        let python = environment();
        let address = free_address();
        let process = Process::start(
            Command::new(python)
                .args(["-m", "uvicorn", "app:app", "--workers=2", "--loop=uvloop"])
                .args(["--http=httptools", "--no-access-log", "--log-level=warning"])
                .arg(format!("--port={}", address.port()))
                .current_dir(FOLDER)
                .env("DATABASE_URL", asyncpg_url(database_url))
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .env("SUPABASE_JWT_SECRET", JWT_SECRET),
        );
        let peer = Self { process, address };
        let begun = Instant::now();
        while TcpStream::connect(address).is_err() {
            assert!(
                begun.elapsed() < START,
                "the peer does not listen: {}",
                peer.process.printed()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        peer
    }
}

impl Drop for Peer {
    /// Its workers end only with a parent that is told to.
    fn drop(&mut self) {
        self.process.terminate(Duration::from_secs(20));
    }
}

/// The interpreter of an environment with what `requirements.txt` names. Made once, below the target folder.
fn environment() -> PathBuf {
    let wanted = std::fs::read_to_string(Path::new(FOLDER).join("requirements.txt"))
        .expect("it lies beside the peer");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peer");
    let (python, made) = (folder.join("bin/python"), folder.join("made-of.txt"));
    if std::fs::read_to_string(&made).is_ok_and(|had| had == wanted) {
        return python;
    }
    // What is there was never finished, or is of another time.
    drop(std::fs::remove_dir_all(&folder));
    must(
        Command::new("python3").args(["-m", "venv"]).arg(&folder),
        "Python 3.10 or newer with its module venv is needed for the peer",
    );
    must(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "--requirement"])
            .arg(Path::new(FOLDER).join("requirements.txt")),
        "pip could not install what benches/peer/requirements.txt names",
    );
    std::fs::write(&made, wanted).expect("the folder is there");
    python
}

fn must(command: &mut Command, needed: &str) {
    match command.output() {
        Ok(output) => assert!(
            output.status.success(),
            "{needed}: {}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        ),
        Err(fault) => panic!("{needed}: {command:?}: {fault}"),
    }
}

/// asyncpg takes the folder of the socket as a parameter, not as the host.
fn asyncpg_url(url: &str) -> String {
    let (start, rest) = url.split_once('@').expect("a user and a host");
    let (host, database) = rest.split_once('/').expect("a database");
    format!("{start}@/{database}?host={host}")
}

/// An address where nobody listens.
pub(crate) fn free_address() -> SocketAddr {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
}
