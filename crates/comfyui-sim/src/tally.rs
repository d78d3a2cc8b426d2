//! How often each prompt was submitted and run, over all restarts: the witness for "executed exactly once".

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

/// The counts of one prompt id.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(crate) struct Counts {
    /// How often it was accepted by `POST /prompt`.
    pub(crate) submissions: u32,
    /// How often its execution was started.
    pub(crate) executions: u32,
}

/// The counts of all prompt ids.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    counts: Mutex<BTreeMap<String, Counts>>,
}

impl Tally {
    pub(crate) fn submitted(&self, prompt_id: &str) {
        self.count(prompt_id, |counts| counts.submissions += 1);
    }

    pub(crate) fn executed(&self, prompt_id: &str) {
        self.count(prompt_id, |counts| counts.executions += 1);
    }

    pub(crate) fn of(&self, prompt_id: &str) -> Counts {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(prompt_id)
            .copied()
            .unwrap_or_default()
    }

    pub(crate) fn all(&self) -> BTreeMap<String, Counts> {
        self.counts
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn count(&self, prompt_id: &str, change: impl FnOnce(&mut Counts)) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        change(counts.entry(prompt_id.to_owned()).or_default());
    }
}
