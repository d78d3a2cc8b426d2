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
    sent_bytes: Arc<AtomicU64>,
}

impl Gate {
    pub(crate) fn new() -> Self {
        Self {
            failing: watch::Sender::new(None),
            holding_gets: watch::Sender::new(false),
            holding_puts: watch::Sender::new(false),
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

    pub(crate) fn sent_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.sent_bytes)
    }
}

async fn wait_for_end(holding: &watch::Sender<bool>) {
    // The sender outlives this, so the wait can only end because the holding is over.
    drop(holding.subscribe().wait_for(|hold| !hold).await);
}
