use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// What a test tells a running server to do, and reads off it. Clones share
/// the same switches.
#[derive(Clone, Debug)]
pub struct Gate {
    failing: watch::Sender<Option<u16>>,
    holding_gets: watch::Sender<bool>,
    holding_puts: watch::Sender<bool>,
    holding_bodies: watch::Sender<Option<u64>>,
    cutting_bodies: watch::Sender<Cuts>,
    sent_bytes: Arc<AtomicU64>,
}

/// Bodies that are to break off.
#[derive(Clone, Copy, Debug, Default)]
struct Cuts {
    after_bytes: u64,
    left: u32,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            failing: watch::Sender::new(None),
            holding_gets: watch::Sender::new(false),
            holding_puts: watch::Sender::new(false),
            holding_bodies: watch::Sender::new(None),
            cutting_bodies: watch::Sender::default(),
            sent_bytes: Arc::default(),
        }
    }

    /// Answers every request from now on with this HTTP status, without doing
    /// it; `None` goes back to work.
    pub fn fail_with(&self, status: Option<u16>) {
        self.failing.send_replace(status);
    }

    /// Answers no more GET while `true`.
    pub fn hold_gets(&self, hold: bool) {
        self.holding_gets.send_replace(hold);
    }

    /// Takes no more PUT, neither their bodies nor their answers, while `true`.
    pub fn hold_puts(&self, hold: bool) {
        self.holding_puts.send_replace(hold);
    }

    /// Sends so many bytes of the body of each answer to a GET and then no more,
    /// while there is a number.
    pub fn hold_bodies_after(&self, bytes: Option<u64>) {
        self.holding_bodies.send_replace(bytes);
    }

    /// Closes the connection in the middle of the next `times` answers to a GET
    /// that have more than so many bytes, once these are sent.
    pub fn cut_bodies_after(&self, bytes: u64, times: u32) {
        self.cutting_bodies.send_replace(Cuts {
            after_bytes: bytes,
            left: times,
        });
    }

    /// How many bodies are yet to be cut.
    pub fn cuts_left(&self) -> u32 {
        self.cutting_bodies.borrow().left
    }

    /// How many bytes of bodies were handed to the sockets since the start.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn failing(&self) -> Option<u16> {
        *self.failing.borrow()
    }

    pub(crate) async fn wait_for_gets(&self) {
        wait_for_end(&self.holding_gets).await;
    }

    pub(crate) async fn wait_for_puts(&self) {
        wait_for_end(&self.holding_puts).await;
    }

    pub(crate) fn count_sent(&self, bytes: u64) {
        self.sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn holds_body(&self, sent_bytes: u64) -> bool {
        is_held(*self.holding_bodies.borrow(), sent_bytes)
    }

    /// Comes back when a body of which so many bytes are sent may go on.
    pub(crate) async fn wait_for_body(self, sent_bytes: u64) {
        let mut holding = self.holding_bodies.subscribe();
        drop(holding.wait_for(|held| !is_held(*held, sent_bytes)).await);
    }

    /// Whether a body is to break off here; uses up one of the announced cuts.
    pub(crate) fn takes_cut(&self, sent_bytes: u64) -> bool {
        self.cutting_bodies.send_if_modified(|cuts| {
            let is_due = cuts.left > 0 && sent_bytes >= cuts.after_bytes;
            if is_due {
                cuts.left -= 1;
            }
            is_due
        })
    }
}

fn is_held(held_after: Option<u64>, sent_bytes: u64) -> bool {
    held_after.is_some_and(|bytes| sent_bytes >= bytes)
}

async fn wait_for_end(holding: &watch::Sender<bool>) {
    // The sender outlives this, so the wait can only end because the holding is over.
    drop(holding.subscribe().wait_for(|hold| !hold).await);
}
