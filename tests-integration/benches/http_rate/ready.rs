//! How long a server takes from its start until it can do its work.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use atelier_tests_integration::database::Database;

use crate::contest::median;
use crate::peer::free_address;
use crate::rows::record;
use crate::site::Site;

const STARTS: usize = 9;

const PATIENCE: Duration = Duration::from_mins(1);

pub(crate) fn measure(site: &Site, database: &Database) {
    let (mut alive, mut ready) = (Vec::new(), Vec::new());
    for _ in 0..STARTS {
        let address = free_address();
        let setup = site
            .setup(database)
            .with("ATELIER_LISTEN", address.to_string());
        let begun = Instant::now();
        let process = setup.spawn();
        for (path, times) in [("/healthz", &mut alive), ("/readyz", &mut ready)] {
            while !answers(address, path) {
                assert!(begun.elapsed() < PATIENCE, "{}", process.printed());
                std::thread::sleep(Duration::from_millis(1));
            }
            times.push(begun.elapsed().as_secs_f64());
        }
    }
    let figures = format!(
        "listens after {:.0} ms, ready after {:.0} ms (median of {STARTS} starts)",
        median(alive) * 1e3,
        median(ready.clone()) * 1e3
    );
    record("ready", median(ready), &figures);
}

/// Whether a path is answered with 200.
fn answers(address: SocketAddr, path: &str) -> bool {
    let ask = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.starts_with("HTTP/1.1 200"))
    };
    ask().unwrap_or(false)
}
