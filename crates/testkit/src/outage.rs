use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use atelier_domain::ports::Source;

/// A switch that makes a fake unreachable: while it is on, every call fails
/// the way the real thing does when it is down. Clones share the switch.
#[derive(Clone, Debug, Default)]
pub struct Outage(Arc<AtomicBool>);

impl Outage {
    /// Begins the outage.
    pub fn begin(&self) {
        self.0.store(true, Ordering::SeqCst);
    }

    /// Ends it.
    pub fn end(&self) {
        self.0.store(false, Ordering::SeqCst);
    }

    /// What a call fails with just now, if it does.
    pub(crate) fn source(&self) -> Option<Source> {
        self.0
            .load(Ordering::SeqCst)
            .then(|| Source::from("the test switched it off"))
    }
}
