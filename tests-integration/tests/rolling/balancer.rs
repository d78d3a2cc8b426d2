//! What stands between people and servers: it knows addresses, and nothing
//! else.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Sends each request to the next server.
#[derive(Debug)]
pub(crate) struct Balancer {
    servers: Mutex<Vec<String>>,
    turn: AtomicUsize,
    /// What clients met, and met again elsewhere.
    pub(crate) met: Met,
}

/// How often something stood in the way of a request.
#[derive(Debug, Default)]
pub(crate) struct Met {
    /// Nobody listened.
    pub(crate) refused: AtomicUsize,
    /// 503.
    pub(crate) unavailable: AtomicUsize,
    /// The connection ended before the answer; only what may be repeated.
    pub(crate) cut: Mutex<Vec<String>>,
    /// A stream ended before its run did.
    pub(crate) streams: AtomicUsize,
}

impl Met {
    /// Remembers a connection that ended before its time.
    pub(crate) fn cut_off(&self, error: &reqwest::Error) {
        let mut cut = self.cut.lock().expect("nobody panics with it");
        cut.push(format!("{error:?}"));
    }
}

/// Counts one.
pub(crate) fn count(counter: &AtomicUsize) {
    counter.fetch_add(1, Ordering::Relaxed);
}

impl Balancer {
    pub(crate) fn new(servers: Vec<String>) -> Self {
        Self {
            servers: Mutex::new(servers),
            turn: AtomicUsize::new(0),
            met: Met::default(),
        }
    }

    /// The server that is next.
    pub(crate) fn next(&self) -> String {
        let servers = self.servers.lock().expect("nobody panics with it");
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        servers[turn % servers.len()].clone()
    }

    /// Puts a server into the place of another.
    pub(crate) fn replace(&self, index: usize, server: &str) {
        let mut servers = self.servers.lock().expect("nobody panics with it");
        server.clone_into(&mut servers[index]);
    }
}
